"""A full-INT8 TFLite file computes what its plan says: to the last bit of exact integer arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")
pytest.importorskip("flatbuffers", reason="needs the tflite extra")

from models import random_pixels
from tflite_arithmetic import integer_values
from tflite_models import (
    D0,
    LITE0,
    flat,
    operators_of,
    outputs_of,
    outside_xnnpack,
    plan_for,
    random_graph,
    random_plan,
)

from edgedet.calibration.placement.emit import make_dense_graph
from edgedet.calibration.placement.plan import MOST_LEVELS, DensePlan
from edgedet.errors import UnsupportedError
from edgedet.export.tflite.windows import round_conv
from edgedet.export.tflite.writer import tflite_from_graph
from edgedet.specs import DetectorSpec

SPECS_HERE = pytest.mark.parametrize(
    "spec",
    [
        D0,
        LITE0,
        replace(D0, input_hw=(200, 133)),
        replace(D0, padding="symmetric"),
        replace(D0, input_hw=(200, 133), pool_padding="zeros"),
    ],
    ids=["d0", "lite0", "d0 of an odd size", "d0 padded symmetrically", "d0 with zeros around max-pools"],
)


@SPECS_HERE
def test_every_value_is_the_exact_integer(spec: DetectorSpec) -> None:
    """Each operator of the graph, at each element, with the operators before it: no level of difference."""
    model = random_graph(spec)
    pixels = random_pixels(spec)
    plan = random_plan(spec)
    wanted = integer_values(model, plan, pixels)
    flatbuffer, names = tflite_from_graph(model, plan, every_value=True)
    compared = 0
    for name, got in zip(names, outputs_of(flatbuffer, pixels), strict=True):
        if name in plan.tensors:
            np.testing.assert_array_equal(got.transpose(0, 3, 1, 2), wanted[name], err_msg=name)
            compared += 1
    assert compared > len(model.graph.node) / 2


def test_a_layer_of_huge_weights_is_still_run_by_xnnpack() -> None:
    """A BatchNorm of nearly constant values makes such weights. XNNPACK ends with an error from a ratio of 256 on."""
    model = onnx.ModelProto()
    model.CopyFrom(random_graph(LITE0))
    conv = next(node for node in model.graph.node if node.name.startswith("class_net.conv_rep.0.conv_pw"))
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == conv.input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1e6), weight.name))
    pixels = random_pixels(LITE0)
    plan = plan_for(model, LITE0, pixels)
    clips = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Clip"}
    output = clips[conv.output[0]]
    ratio = plan.tensors[conv.input[0]].scale * plan.convs[conv.output[0]].scales.max() / plan.tensors[output].scale
    assert ratio == pytest.approx(MOST_LEVELS)
    wanted = integer_values(model, plan, pixels)
    flatbuffer, names = tflite_from_graph(model, plan, every_value=True)
    values = dict(zip(names, outputs_of(flatbuffer, pixels), strict=True))
    np.testing.assert_array_equal(values[output].transpose(0, 3, 1, 2), wanted[output])


def test_what_a_fused_relu6_reads_is_never_rounded() -> None:
    """Neither the plan nor the Q/DQ reference has a scale between an operator and the ReLU6 that is part of it."""
    model = random_graph(LITE0)
    plan = random_plan(LITE0)
    clips = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Clip"}
    assert len(clips) == 86
    assert not clips.keys() & plan.tensors.keys()
    assert set(clips.values()) <= plan.tensors.keys()
    assert all(plan.tensors[name].zero_point == -128 for name in clips.values())
    reference = make_dense_graph(model, LITE0, plan)
    read_by_clips = {node.input[0] for node in reference.graph.node if node.op_type == "Clip"}
    assert read_by_clips == clips.keys()


def test_the_file_as_it_is_shipped_gives_the_same_outputs() -> None:
    """Without the values in between, XNNPACK may fuse more."""
    model = random_graph(D0)
    pixels = random_pixels(D0)
    plan = random_plan(D0)
    wanted = integer_values(model, plan, pixels)
    flatbuffer, names = tflite_from_graph(model, plan)
    for name, got in zip(names, outputs_of(flatbuffer, pixels), strict=True):
        np.testing.assert_array_equal(got.transpose(0, 3, 1, 2), wanted[name], err_msg=name)


def test_int8_outputs_follow_the_float_network() -> None:
    """The integers mean what the network means: a gross error, such as a wrong zero point, would not correlate."""
    model = random_graph(D0)
    pixels = random_pixels(D0)
    plan = random_plan(D0)
    real, quantised = (tflite_from_graph(model, p) for p in (None, plan))
    got = [
        (value.astype(np.float32) - plan.tensors[name].zero_point) * plan.tensors[name].scale
        for name, value in zip(quantised[1], outputs_of(quantised[0], pixels), strict=True)
    ]
    for ours, wanted in zip(flat(got, 3), flat(outputs_of(real[0], pixels), 3), strict=True):
        wanted = np.maximum(wanted, ours.min())  # logits are cut at the range's lower end
        assert np.corrcoef(ours.ravel(), wanted.ravel())[0, 1] > 0.95


def test_d0_has_at_most_570_operators_and_only_the_resizes_outside_xnnpack() -> None:
    """litert-torch's converter makes 613 of the same model."""
    model = random_graph(D0)
    flatbuffer, _ = tflite_from_graph(model, random_plan(D0))
    kinds = operators_of(flatbuffer)
    assert kinds.pop("DELEGATE") == 13  # one more than there are resizes
    assert kinds.total() == 563
    assert outside_xnnpack(flatbuffer) == {"RESIZE_NEAREST_NEIGHBOR": 12}


def test_a_channel_without_weight_keeps_its_bias() -> None:
    """Scale 0.02 x 1e-8 would put a bias of 0.5 at 2.5e9, beyond int32; the scale grows instead."""
    weight = np.zeros((2, 1, 1, 1), np.int8)
    weight[1] = 127
    scales = np.array([1e-8, 0.01], np.float32)
    got, fitted, bias = round_conv(weight, scales, np.array([0.5, -1.0], np.float32), 0.02)
    np.testing.assert_array_equal(got, weight)
    assert fitted[1] == scales[1]
    np.testing.assert_allclose(bias * 0.02 * fitted.astype(np.float64), [0.5, -1.0], rtol=1e-4)


def test_a_plan_that_lacks_a_tensor_is_refused_by_name() -> None:
    model = random_graph(D0)
    plan = random_plan(D0)
    tensors = {name: q for name, q in plan.tensors.items() if name != "backbone.conv_stem"}
    with pytest.raises(UnsupportedError, match="lacks the tensor backbone.conv_stem:"):
        tflite_from_graph(model, DensePlan(tensors, plan.convs))


def test_the_stem_reads_pairs_of_columns_where_it_steps_over_them_two_by_two() -> None:
    """Six channels instead of three; the integers are the same (test_every_value_is_the_exact_integer)."""
    even, odd = D0, replace(D0, input_hw=(128, 133))
    for spec, reshapes in ((even, 1), (odd, 0), (replace(D0, backbone_padding="symmetric"), 0)):
        model = random_graph(spec)
        flatbuffer, _ = tflite_from_graph(model, random_plan(spec))
        assert operators_of(flatbuffer)["RESHAPE"] == reshapes
        assert set(outside_xnnpack(flatbuffer)) <= {"RESIZE_NEAREST_NEIGHBOR", "PADV2", "PAD"}
        assert outside_xnnpack(flatbuffer)["RESIZE_NEAREST_NEIGHBOR"] == 12
