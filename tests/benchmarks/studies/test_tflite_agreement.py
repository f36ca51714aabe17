"""Each operator of an INT8 .tflite file is within one level of the dense Q/DQ reference, given the same integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")
pytest.importorskip("flatbuffers", reason="needs the tflite extra")
pytest.importorskip("onnxruntime", reason="runs the reference")
cv2 = pytest.importorskip("cv2", reason="reads the picture")

from models import (
    random_pixels,
)
from tflite_models import meta_of, random_graph, random_plan

from edgedet.benchmarks.studies.tflite.agreement import (
    by_operator,
    compare,
    compare_tensors,
    integers_of,
    main,
    merge,
    over_the_network,
)
from edgedet.benchmarks.studies.tflite.plan import plan_of
from edgedet.calibration.placement.emit import make_dense_graph
from edgedet.engines.base import open_engine
from edgedet.export.onnx_file import write_onnx
from edgedet.export.tflite.writer import tflite_from_graph, write_tflite
from edgedet.specs import SPECS, DetectorSpec

D0 = replace(SPECS["tf_efficientdet_d0"], num_classes=3, input_hw=(128, 160))
LITE0 = replace(SPECS["tf_efficientdet_lite0"], num_classes=3, input_hw=(160, 128))
BOTH = pytest.mark.parametrize("spec", [D0, LITE0], ids=["d0", "lite0"])


def test_levels_are_counted() -> None:
    """Of four elements one is 1, one 2 and one 3 levels off; -128 against 127 does not wrap."""
    found = compare_tensors("x", "Add", np.int8([0, 0, 0, -128]), np.int8([0, 1, -2, 127]))
    assert (found.equal, found.within_1, found.within_2, found.largest) == (0.25, 0.5, 0.75, 255)
    (joined,) = merge([[found], [compare_tensors("x", "Add", np.int8([5]), np.int8([5]))]])
    assert (joined.equal, joined.largest, joined.elements) == (0.625, 255, 5)


@BOTH
def test_each_operator_alone_is_within_one_level_and_nearly_always_equal(spec: DetectorSpec) -> None:
    model, pixels = random_graph(spec), random_pixels(spec)
    plan = random_plan(spec)
    dense = make_dense_graph(model, spec, plan)
    given = integers_of(model, plan, pixels)
    operators = by_operator(dense, given)
    kinds = {item.kind for item in operators}
    assert {"Conv", "Add"} < kinds
    assert ("Clip" if spec is LITE0 else "Mul") in kinds
    assert sum(item.kind in ("Conv", "Clip") for item in operators) >= 181
    assert all(item.within_1 == 1.0 for item in operators)
    assert np.average([item.equal for item in operators], weights=[item.elements for item in operators]) > 0.999
    together = over_the_network(dense, pixels, given)
    assert [item.name for item in together] == [item.name for item in operators]
    assert together[0].equal > 0.999  # the first operator has nothing handed on


def test_an_operator_that_computes_something_else_is_found() -> None:
    """One weight changed by 60 levels: of all operators only that convolution differs."""
    model, pixels = random_graph(D0), random_pixels(D0)
    plan = random_plan(D0)
    given = integers_of(model, plan, pixels)
    name = "backbone.blocks.1.1.conv_pw"
    changed = plan.convs[name].weight.copy()
    changed[0, 0] -= 60 * np.sign(changed[0, 0])
    other = replace(plan, convs={**plan.convs, name: replace(plan.convs[name], weight=changed)})
    operators = by_operator(make_dense_graph(model, D0, other), given)
    assert [item.name for item in operators if item.within_1 < 1.0] == [name]


@BOTH
def test_the_plan_is_read_back_out_of_the_file(spec: DetectorSpec) -> None:
    model = random_graph(spec)
    plan = random_plan(spec)
    flatbuffer, _ = tflite_from_graph(model, plan)
    found = plan_of(flatbuffer, model)
    for name, params in found.tensors.items():
        assert params.zero_point == plan.tensors[name].zero_point
        assert params.scale == pytest.approx(plan.tensors[name].scale, rel=1e-6)
    for name, conv in found.convs.items():
        np.testing.assert_array_equal(conv.weight, plan.convs[name].weight)
        np.testing.assert_array_equal(conv.scales, plan.convs[name].scales)
    assert tflite_from_graph(model, found)[0] == flatbuffer


def test_the_command_compares_the_shipped_file_and_writes_a_reference_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, pixels = random_graph(D0), random_pixels(D0)
    write_onnx(model, meta_of(D0), tmp_path / "d0.onnx")
    write_tflite(model, meta_of(D0), tmp_path / "d0_int8.tflite", random_plan(D0))
    cv2.imwrite(str(tmp_path / "picture.png"), pixels[0])
    reference = tmp_path / "d0_dense.onnx"
    figures = compare(tmp_path / "d0.onnx", tmp_path / "d0_int8.tflite", str(tmp_path / "picture.png"), 1, reference)
    assert figures["pictures"] == 1
    assert figures["below"] == []
    assert len(figures["outputs"]) == 10
    meta, engine = open_engine(reference, 1)
    assert meta.precision == "int8"
    codes = engine.infer(pixels).real().box_codes
    ours = open_engine(tmp_path / "d0_int8.tflite", 1)[1].infer(pixels).real().box_codes
    assert np.corrcoef(codes.ravel(), ours.ravel())[0, 1] > 0.95
    write_tflite(random_graph(LITE0), meta_of(LITE0), tmp_path / "lite0.tflite")
    command = [str(tmp_path / "d0.onnx"), str(tmp_path / "lite0.tflite"), "--source", str(tmp_path / "picture.png")]
    assert main(command) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("edgedet: "))
    assert "lite0.tflite is fp32: wanted an INT8 file" in line
