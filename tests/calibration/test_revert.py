"""Layers go back to float: in both placements, in the files, and no more of them than needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")
pytest.importorskip("flatbuffers", reason="needs the tflite extra")

import onnxruntime
from models import random_pixels
from tflite_models import D0, LITE0, flat, operators_of, outputs_of, outside_xnnpack, random_graph, random_plan

from edgedet.calibration.graph.macs import count_conv_macs
from edgedet.calibration.placement.emit import make_dense_graph
from edgedet.calibration.placement.plan import SparsePlan
from edgedet.calibration.placement.table import CalibrationTable
from edgedet.calibration.quantise import Quantised, compute_int8_mac_share
from edgedet.calibration.recovery.revert import exclude_layers, find_fewest_layers, find_layer_nodes
from edgedet.export.int8.files import TFLITE, Form
from edgedet.export.int8.revert import revert_layers
from edgedet.export.tflite.writer import tflite_from_graph
from edgedet.judge.gate.verdict import MIN_KEPT, Verdict

SWISHED, GATE, LINEAR = (
    "backbone.blocks.1.0.conv_pw",
    "backbone.blocks.2.1.se.conv_expand",
    "class_net.predict.conv_pw.1",
)
NOTHING = SparsePlan({}, {}, {})


def test_a_layer_is_a_convolution_and_its_activation() -> None:
    model = random_graph(D0)
    kinds = {layer: [node.op_type for node in find_layer_nodes(model, layer)] for layer in (SWISHED, GATE, LINEAR)}
    assert kinds == {SWISHED: ["Conv", "Sigmoid", "Mul"], GATE: ["Conv", "Sigmoid"], LINEAR: ["Conv"]}
    lite = random_graph(LITE0)
    assert [node.op_type for node in find_layer_nodes(lite, SWISHED)] == ["Conv", "Clip"]


@pytest.mark.parametrize(
    ("spec", "layers"), [(D0, (SWISHED, GATE, LINEAR)), (LITE0, (SWISHED, LINEAR))], ids=["d0", "lite0"]
)
def test_the_file_computes_reverted_layers_in_float(spec, layers) -> None:
    """Outputs are the Q/DQ graph's of the same plan, to two levels (root mean square) and 1 % of their own power."""
    model, pixels = random_graph(spec), random_pixels(spec)
    whole = random_plan(spec)
    plan, _ = exclude_layers(model, whole, NOTHING, layers)
    flatbuffer, names = tflite_from_graph(model, plan)
    kinds = Counter(operators_of(flatbuffer))
    before = Counter(operators_of(tflite_from_graph(model, whole)[0]))
    assert kinds - before == Counter({"DEQUANTIZE": len(layers), "QUANTIZE": len(layers)})
    assert not before - kinds
    assert outside_xnnpack(flatbuffer) == outside_xnnpack(tflite_from_graph(model, whole)[0])

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(make_dense_graph(model, spec, plan).SerializeToString(), options)
    wanted = session.run(None, {"pixels": pixels})
    scales = [plan.tensors[name] for name in names]
    levels = [
        (value.astype(np.float32) - q.zero_point) * q.scale
        for q, value in zip(scales, outputs_of(flatbuffer, pixels), strict=True)
    ]
    for found, reference in zip(flat(levels, spec.num_classes), wanted, strict=True):
        error = np.abs(found - reference[0])
        assert np.sqrt(np.square(error).mean()) < 2.0 * max(q.scale for q in scales)
        assert np.square(error).mean() < 0.01 * np.square(reference - reference.mean()).mean()


def test_the_stem_and_others_stay_integers() -> None:
    model = random_graph(D0)
    whole = random_plan(D0)
    plan, _ = exclude_layers(model, whole, NOTHING, [SWISHED])
    assert set(whole.convs) - set(plan.convs) == {SWISHED}
    assert set(whole.tensors) - set(plan.tensors) == {SWISHED, f"{SWISHED}.sigmoid"}
    macs = count_conv_macs(model)
    assert compute_int8_mac_share(model, plan) == pytest.approx(1.0 - macs[SWISHED] / sum(macs.values()))


@pytest.mark.parametrize(("needed", "tried"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 4, 3]), (5, [1, 2, 4, 6, 5])])
def test_the_fewest_layers_are_found(needed: int, tried: list[int]) -> None:
    """Of six layers the first ``needed`` have to go; values are tried in steps of two, then halfway."""
    calls = []

    def value_of(layers: Sequence[str]) -> float:
        calls.append(len(layers))
        return 1.0 if len(layers) >= needed else 0.0

    assert find_fewest_layers(list("abcdef"), value_of, 0.97) == (list("abcdef")[:needed], 1.0)
    assert calls == tried


def test_nothing_is_found_where_all_do_not_do() -> None:
    assert find_fewest_layers(list("abc"), lambda layers: 0.5, 0.97) is None
    assert find_fewest_layers([], lambda layers: 1.0, 0.97) is None


class _Selector:
    """Stands in for the select frames: all of AP is kept once SWISHED is float, else ``value``."""

    def __init__(self, boxes: int = 60, value: float = 0.8) -> None:
        self._boxes, self._value = boxes, value

    def verdict(self, quantised: Quantised, form: Form) -> Verdict:
        value = self._value if SWISHED in quantised.dense.convs else 1.0
        return Verdict("", "", "", value, None, MIN_KEPT, 10, self._boxes, 0.4)

    def order(self, quantised: Quantised) -> list[str]:
        return [GATE, SWISHED, LINEAR]


@cache
def _quantised() -> Quantised:
    model = random_graph(D0)
    dense = random_plan(D0)
    return Quantised(model, CalibrationTable({}, {}), dense, NOTHING, {"dense": 1.0, "sparse": 0.0})


def test_export_reverts_until_the_select_frames_pass() -> None:
    said: list[str] = []
    result, layers = revert_layers(_quantised(), TFLITE, _Selector(), 16, said.append)  # type: ignore[arg-type]
    assert layers == [GATE, SWISHED]
    assert set(layers).isdisjoint(result.dense.convs)
    assert 0.9 < result.mac_shares["dense"] < 1.0
    assert f"{GATE}, {SWISHED} go back to float; it keeps 1.000 of AP" in said[-1]


@pytest.mark.parametrize(("value", "wanted"), [(MIN_KEPT + 0.009, [GATE, SWISHED]), (MIN_KEPT + 0.011, [])])
def test_export_reverts_what_the_gate_might_just_refuse(value: float, wanted: list[str]) -> None:
    said: list[str] = []
    _, layers = revert_layers(_quantised(), TFLITE, _Selector(value=value), 16, said.append)  # type: ignore[arg-type]
    assert layers == wanted
    assert bool(said) == bool(wanted)


@pytest.mark.parametrize(
    ("boxes", "most", "line"), [(10, 16, "the select frames hold 10 boxes"), (60, 0, None), (60, 1, "all stay INT8")]
)
def test_export_leaves_all_layers_where_reverting_cannot_be_judged_or_does_not_help(boxes, most, line) -> None:
    said: list[str] = []
    quantised = _quantised()
    result, layers = revert_layers(quantised, TFLITE, _Selector(boxes), most, said.append)  # type: ignore[arg-type]
    assert result is quantised
    assert layers == []
    assert (line is None and not said) or line in said[-1]
