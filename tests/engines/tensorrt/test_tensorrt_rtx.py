"""NVIDIA's own parser and builder take the sparse graphs, and run in INT8 what the plan says.

Nothing runs here: an engine needs a GPU. What the builder logs is the type of each layer's tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
trt = pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra: NVIDIA's builder, which works without a GPU")

import onnx
from models import (
    random_network,
    random_pixels,
)
from onnx import helper, numpy_helper
from rtx_layers import CONVOLUTION, Layer, built_layers, parse_errors, parsed
from sparse_models import sparse_model

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.placement.emit import make_sparse_graph
from edgedet.calibration.placement.plan import SparsePlan
from edgedet.calibration.placement.typed import make_typed_graph
from edgedet.engines.tensorrt.build import _add_profiles
from edgedet.export.onnx_file import finish_graph
from edgedet.specs import SPECS

D0 = replace(SPECS["tf_efficientdet_d0"], num_classes=3, input_hw=(128, 128))
SQUEEZE_EXCITE_CONVS = 32  # two in each of D0's 16 blocks
CONVS = 181  # D0's others


@pytest.fixture(scope="module")
def float_sparse_plan() -> tuple[onnx.ModelProto, onnx.ModelProto, SparsePlan]:
    return sparse_model(random_network(D0), random_pixels(D0))


@pytest.fixture(scope="module", params=["opset 17", "FP16, opset 19"])
def built(request: pytest.FixtureRequest, float_sparse_plan) -> tuple[list[Layer], onnx.ModelProto, str]:
    """(layers, the model they come from, the type of what is not INT8)."""
    model = float_sparse_plan[1]
    if request.param == "opset 17":
        return built_layers(model), model, "Float"
    model = make_typed_graph(model)
    return built_layers(model), model, "Half"


def convs_of(model: onnx.ModelProto) -> set[str]:
    return {node.name for node in model.graph.node if node.op_type == "Conv"}


def int8_convs(layers: list[Layer], model: onnx.ModelProto) -> set[str]:
    """Names of the Conv nodes that a convolution layer runs on INT8 values with INT8 weights."""
    return {
        name
        for layer in layers
        if layer.kind == CONVOLUTION and layer.inputs[0][1] == "Int8" and "Int8" in layer.weight_types
        for name in layer.nodes & convs_of(model)
    }


def test_every_conv_that_the_plan_quantises_is_int8(built, float_sparse_plan) -> None:
    layers, model, _ = built
    plan = float_sparse_plan[2]
    assert len(plan.convs) == CONVS
    assert len(convs_of(model)) == CONVS + SQUEEZE_EXCITE_CONVS
    assert int8_convs(layers, model) == set(plan.convs)


def test_no_conv_but_squeeze_excite_s_runs_on_floats(built) -> None:
    layers, model, wide = built
    others = [item for item in layers if item.kind == CONVOLUTION and item.inputs[0][1] != "Int8"]
    assert {item.inputs[0][1] for item in others} == {wide}
    assert all(".se." in name for item in others for name in item.nodes & convs_of(model))


def test_int8_is_handed_on_but_to_squeeze_excite_and_weighted_sums(built) -> None:
    """Apart from what INT8 convolutions accumulate, no float tensor passes between layers elsewhere."""
    layers, _, _ = built
    source = {name: layer for layer in layers for name, _ in layer.outputs}
    for layer in layers:
        for name, kind in layer.inputs:
            made = source.get(name)
            if made is None or kind == "Int8" or made.kind == CONVOLUTION:
                continue
            assert any(".se" in node or node.startswith("fpn.cell.") for node in made.nodes), (layer.name, name)


POOLS_SEEN = 14  # of D0: one a bottom-up node, and P6 and P7


def test_the_mean_of_pixels_and_the_pools_are_no_float_layers(built) -> None:
    layers, _, _ = built
    (first,) = (layer for layer in layers if layer.inputs and layer.inputs[0][1] == "UInt8")
    assert [kind for _, kind in first.outputs] == ["Int8"]
    pools = [layer for layer in layers if layer.kind == "maxpool"]
    # The builder may run one pool in several layers or hand another name on, so layers are not counted.
    assert len([node for layer in pools for node in layer.nodes if "downsample" in node]) >= POOLS_SEEN
    assert {kind for layer in pools for _, kind in (*layer.inputs, *layer.outputs)} == {"Int8"}


def test_a_conv_that_is_kept_float_is_seen_as_float(float_sparse_plan) -> None:
    """The dump tells: without this, the tests above could not fail."""
    model, _, plan = float_sparse_plan
    kept = "fpn.cell.1.fnode.4.conv_pw"
    convs = {name: q for name, q in plan.convs.items() if name != kept}
    less = make_sparse_graph(model, replace(plan, convs=convs))
    assert int8_convs(built_layers(less), less) == set(convs)


def changed(model: onnx.ModelProto, name: str, array: np.ndarray) -> onnx.ModelProto:
    """Return the model with one constant replaced."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    (item,) = (item for item in result.graph.initializer if item.name == name)
    item.CopyFrom(numpy_helper.from_array(array, name))
    return result


def with_integer_bias(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the stem's bias as int32 behind a DequantizeLinear, as other tools write it."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    conv = next(node for node in graph.node if node.op_type == "Conv")
    (bias,) = (numpy_helper.to_array(item) for item in graph.initializer if item.name == conv.input[2])
    scale = np.float32(1e-6)
    graph.initializer.append(numpy_helper.from_array(np.rint(bias / scale).astype(np.int32), "bias.int32"))
    graph.initializer.append(numpy_helper.from_array(scale, "bias.scale"))
    graph.node.insert(0, helper.make_node("DequantizeLinear", ["bias.int32", "bias.scale"], ["bias.q"], name="bias.q"))
    conv.input[2] = "bias.q"
    onnx.checker.check_model(result)
    return result


def test_the_parser_takes_the_sparse_graph(float_sparse_plan) -> None:
    assert parse_errors(float_sparse_plan[1]) == []


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda model: changed(model, "pixels.nchw.zero_point", np.int8(3)), "Non-zero zero point is not supported"),
        (lambda model: changed(model, "pixels.nchw.scale", np.float32(0)), "Scale coefficients must all be positive"),
        (with_integer_bias, "input has type Int32"),
    ],
    ids=["a zero point of 3", "a scale of 0", "an int32 bias"],
)
def test_the_parser_refuses_what_the_plan_avoids(
    float_sparse_plan, spoilt: Callable[[onnx.ModelProto], onnx.ModelProto], said: str
) -> None:
    errors = parse_errors(spoilt(float_sparse_plan[1]))
    assert len(errors) == 1
    assert said in errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("typed", [False, True])
def test_the_builder_takes_a_profile_for_each_number_of_pictures(typed: bool, float_sparse_plan) -> None:
    """Nothing of an open batch is refused, with the best anchors chosen in the graph."""
    meta = ArtifactMeta(D0, ("a", "b", "c"), "fp32", "0" * 64, max_batch=2).with_top_anchors(500)
    model = finish_graph(float_sparse_plan[int(typed)], meta)
    (builder, network, _parser), errors = parsed(make_typed_graph(model) if typed else model)
    assert not errors
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    _add_profiles(builder, network, config, 2)
    assert config.num_optimization_profiles == 2
    shapes = [tuple(network.get_output(index).shape) for index in range(network.num_outputs)]
    assert shapes == [(-1, 500, 3), (-1, 500, 4), (-1, 500)]
    assert builder.build_serialized_network(network, config) is not None
