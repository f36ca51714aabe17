"""Parts that go back to float do so in NVIDIA's own builder (TensorRT-RTX, which builds without a GPU).

The edits are made by the same calls that TensorRT's bindings have; no engine runs here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import onnx
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
trt = pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra: NVIDIA's builder, which works without a GPU")

from models import (
    random_network,
    random_pixels,
)
from rtx_layers import CONVOLUTION, LOG, Layer, built_layers
from sparse_models import sparse_model

from edgedet.calibration.placement.emit import make_sparse_graph
from edgedet.calibration.placement.plan import CENTRED, OP_CLASSES, SparsePlan
from edgedet.calibration.placement.typed import make_typed_graph
from edgedet.engines.tensorrt.int8_layers import convert_to_int8
from edgedet.engines.tensorrt.layer_precision import PARTS, convert_to_float, convert_to_half
from edgedet.specs import SPECS

# One BiFPN cell and one convolution a head: each part is there, and NVIDIA's builder takes less time.
D0 = replace(SPECS["tf_efficientdet_d0"], num_classes=3, input_hw=(128, 128), bifpn_repeats=1, head_repeats=1)


@pytest.fixture(scope="module")
def float_and_sparse() -> tuple[onnx.ModelProto, onnx.ModelProto, SparsePlan]:
    return sparse_model(random_network(D0), random_pixels(D0))


@pytest.fixture(scope="module")
def sparse(float_and_sparse) -> onnx.ModelProto:
    return float_and_sparse[1]


def int8_convs(layers: Iterable[Layer], model: onnx.ModelProto) -> set[str]:
    convs = {node.name for node in model.graph.node if node.op_type == "Conv"}
    return {
        name
        for layer in layers
        if layer.kind == CONVOLUTION and layer.inputs[0][1] == "Int8"
        for name in layer.nodes & convs
    }


@pytest.mark.parametrize("typed", [False, True], ids=["opset 17", "FP16, opset 19"])
@pytest.mark.parametrize("parts", [(), ("depthwise",), ("stem", "heads")], ids=["none", "depthwise", "stem, heads"])
def test_the_parts_and_no_others_are_float_in_the_built_engine(parts, typed: bool, sparse: onnx.ModelProto) -> None:
    model = make_typed_graph(sparse) if typed else sparse
    before = {node.name for node in model.graph.node if node.op_type == "Conv" and ".se." not in node.name}
    layers = built_layers(model, lambda network: convert_to_float(trt, network, parts))
    assert int8_convs(layers, model) == {name for name in before if not any(PARTS[part](name) for part in parts)}
    only_weights = [layer for layer in layers if layer.nodes and all(".weight.q" in name for name in layer.nodes)]
    assert only_weights == []  # nothing dequantises a weight while frames run


@pytest.mark.parametrize("typed", [False, True], ids=["opset 17", "FP16, opset 19"])
def test_what_was_left_float_goes_into_int8(typed: bool, float_and_sparse) -> None:
    """By the calibration table; only squeeze-excite stays float, and no weight is dequantised while frames run."""
    model, _, plan = float_and_sparse
    kept = {name for name in plan.convs if PARTS["stem"](name) or PARTS["depthwise"](name)}
    less = make_sparse_graph(
        model, replace(plan, convs={name: q for name, q in plan.convs.items() if name not in kept})
    )
    less = make_typed_graph(less) if typed else less
    magnitudes = {CENTRED: 127.0, **{name: 127 * q.scale for name, q in plan.tensors.items()}}
    layers = built_layers(less, lambda network: convert_to_int8(trt, network, magnitudes, typed=True)[1])
    convs = [layer for layer in layers if layer.kind == CONVOLUTION]  # the new ones name no ONNX node
    assert len([layer for layer in convs if layer.inputs[0][1] == "Int8"]) == len(plan.convs)
    assert all(".se." in layer.name for layer in convs if layer.inputs[0][1] != "Int8")
    assert [layer for layer in layers if not layer.inputs] == []


def test_everything_to_float_leaves_fp16_alone(sparse: onnx.ModelProto) -> None:
    layers = built_layers(make_typed_graph(sparse), lambda network: convert_to_float(trt, network, ("everything",)))
    kinds = {kind for layer in layers for _, kind in layer.outputs}
    assert "Int8" not in kinds
    assert {layer.inputs[0][1] for layer in layers if layer.kind == CONVOLUTION} == {"Half"}


def test_a_float_network_becomes_fp16(float_and_sparse) -> None:
    """As TensorRT 11 needs it, which takes no FP16 flag; only the two outputs are FP32."""
    LOG.errors.clear()
    layers = built_layers(float_and_sparse[0], lambda network: convert_to_half(trt, network))
    assert LOG.errors == []  # most heads' convolutions have no bias: setting an empty one logs an error each
    assert {layer.inputs[0][1] for layer in layers if layer.kind == CONVOLUTION} == {"Half"}
    assert Counter(kind for layer in layers for _, kind in layer.outputs)["Float"] == 2


def test_moving_activations_alone_would_dequantise_weights_in_every_frame(sparse: onnx.ModelProto) -> None:
    """Why convert_to_float writes weights anew."""

    def edit(network):
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        maker = {layer.get_output(0).name: layer for layer in layers if layer.num_outputs}
        (stem,) = (layer for layer in layers if layer.name == "backbone.conv_stem")
        quantiser = maker[maker[stem.get_input(0).name].get_input(0).name]
        stem.set_input(0, quantiser.get_input(0))

    layers = built_layers(sparse, edit)
    (only,) = (layer for layer in layers if layer.nodes and all(".weight.q" in name for name in layer.nodes))
    assert only.inputs == ()  # as the check of test_what_was_left_float_goes_into_int8 looks for


def test_parts_are_those_that_export_can_keep_float(sparse: onnx.ModelProto) -> None:
    for name in ("stem", "depthwise", "fpn", "heads"):
        for node in sparse.graph.node:
            if node.op_type == "Conv":
                assert PARTS[name](node.name) == OP_CLASSES[name](node)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tf_efficientdet_d0", "tf_efficientdet_d2", "tf_efficientdet_lite0"])
def test_the_family_builds_in_float_int8_and_fp16(name: str) -> None:
    spec = replace(SPECS[name], num_classes=3, input_hw=(128, 128))
    model, quantised, plan = sparse_model(random_network(spec), random_pixels(spec))
    kinds = {kind for layer in built_layers(model) for _, kind in layer.outputs}
    assert kinds <= {"Float"}
    assert int8_convs(built_layers(quantised), quantised) == set(plan.convs)
    typed = make_typed_graph(quantised)
    assert int8_convs(built_layers(typed), typed) == set(plan.convs)
