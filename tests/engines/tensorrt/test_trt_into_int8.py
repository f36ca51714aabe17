"""What export left float goes into INT8 on the board, and pairs become one convolution, in a SIMULATED TensorRT."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from trt_built import all_convs, planned, quantised_convs
from trt_models import DEPTHWISE, PAIR, SPEC, STEM, write_models

from edgedet.calibration.placement.plan import quantise_conv
from edgedet.engines.tensorrt.build import (
    Recipe,
    choose_file,
)
from edgedet.engines.tensorrt.int8_layers import quantise_weights
from edgedet.errors import InputError, UnsupportedError


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An INT8 file whose stem and depthwise convolution are float, as `edgedet export` writes, with its table."""
    return write_models(tmp_path_factory.mktemp("kept"), keep_float=(STEM, DEPTHWISE))


def all_int8(kept: Path) -> Recipe:
    return Recipe("int8, all", str(kept), "int8", ranges=str(kept.with_name("tiny_int8.table.json")))


def outputs(model: onnx.ModelProto) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(1).integers(0, 256, (1, *SPEC.input_hw, 3), dtype=np.uint8)
    return session.run(None, {"pixels": pixels})


def test_what_export_left_float_goes_into_int8_as_export_would_have_done(trt, kept: Path, int8: Path):
    """The network computes the same, to the last bit, as the file in which everything is INT8."""
    before = onnx.load(choose_file(trt, kept).path)
    assert quantised_convs(before) == all_convs(before) - {STEM, DEPTHWISE}
    model = planned(trt, all_int8(kept))
    assert quantised_convs(model) == all_convs(model) == all_convs(before)
    wanted = onnx.load(choose_file(trt, int8).path)
    for got, want in zip(outputs(model), outputs(wanted), strict=True):
        np.testing.assert_array_equal(got, want)
    assert np.abs(outputs(before)[0] - outputs(wanted)[0]).max() > 0


def test_weights_are_rounded_as_the_exporter_rounds_them():
    weight = np.random.default_rng(2).normal(size=(5, 3, 3, 3)).astype(np.float32)
    weight[4] = 0.0  # a dead channel
    integers, scales = quantise_weights(weight, half=False)
    wanted = quantise_conv(weight, None)
    np.testing.assert_array_equal(integers, wanted.weight)
    np.testing.assert_array_equal(scales, wanted.scales)
    assert quantise_weights(weight, half=True)[1].dtype == np.float16
    assert (quantise_weights(weight, half=True)[1] > 0).all()


def test_a_file_that_is_all_int8_is_not_built_twice(trt10, int8: Path, kept: Path):
    recipe = Recipe("int8, all", str(int8), "int8", ranges=str(kept.with_name("tiny_int8.table.json")))
    with pytest.raises(UnsupportedError, match=r"^tiny_int8\.onnx has every layer in INT8 already$"):
        planned(trt10, recipe)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda table: table.update(model_sha256="6" * 64), InputError, "is of another checkpoint than the model"),
        (lambda table: table.pop("magnitudes"), InputError, "is no calibration table of edgedet"),
        (lambda table: table["magnitudes"].clear(), UnsupportedError, "has no range for what backbone"),
    ],
)
def test_a_table_that_does_not_fit_is_told(change, kind, said: str, trt10, kept: Path, tmp_path: Path):
    table = json.loads(kept.with_name("tiny_int8.table.json").read_text())
    change(table)
    path = tmp_path / "x.table.json"
    path.write_text(json.dumps(table))
    with pytest.raises(kind, match=said):
        planned(trt10, replace(all_int8(kept), ranges=str(path)))


def test_a_pair_becomes_one_convolution_that_computes_the_same(trt, int8: Path):
    """One shifts the picture by a row, the other the channels by one, so that both must be right."""
    dense = planned(trt, Recipe("int8, dense", str(int8), "int8", dense=True))
    before = planned(trt, Recipe("int8", str(int8), "int8"))
    assert all_convs(before) - all_convs(dense) == {PAIR[0]}
    assert quantised_convs(dense) == all_convs(dense)
    (conv,) = (node for node in dense.graph.node if node.name == PAIR[1])
    shape = next(list(a.ints) for a in conv.attribute if a.name == "pads")
    assert shape == [1, 1, 1, 1]
    for got, wanted in zip(outputs(dense), outputs(before), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-3 * np.abs(wanted).max())


def test_pairs_and_all_the_rest_go_into_int8_together(trt, kept: Path):
    recipe = replace(all_int8(kept), dense=True)
    model = planned(trt, recipe)
    assert quantised_convs(model) == all_convs(model)
    assert PAIR[0] not in all_convs(model)
