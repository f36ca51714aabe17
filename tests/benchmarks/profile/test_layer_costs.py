"""What each layer costs: figures by hand for single layers, totals against the published ones."""

import math
from dataclasses import replace

import onnx
import pytest

pytest.importorskip("torch", reason="graphs are made with PyTorch")

from edgedet.artifact import ArtifactMeta
from edgedet.benchmarks.profile.layer_costs import OP_CLASSES, PARTS, compute_layer_costs
from edgedet.calibration.graph.macs import count_conv_macs
from edgedet.errors import InputError
from edgedet.export.fusion.fuse import graph_from_network
from edgedet.export.fusion.top_anchors import keep_top_anchors
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.specs import spec_for


def graph_of(name: str, **changes: object) -> onnx.ModelProto:
    spec = replace(spec_for(name), **changes)
    names = tuple(str(index) for index in range(spec.num_classes))
    return graph_from_network(EfficientDet(spec).eval(), ArtifactMeta(spec, names, "fp32", "0" * 64))


@pytest.fixture(scope="module")
def d0() -> onnx.ModelProto:
    return graph_of("tf_efficientdet_d0")


def by_name(model: onnx.ModelProto, precision: str = "fp32") -> dict:
    return {layer.name: layer for layer in compute_layer_costs(model, precision)}


def test_stem_of_d0_costs_what_one_computes_by_hand(d0):
    """3x3 over 3 channels to 32 at 256x256: 27 x 32 x 65536 MACs; it reads 512x512x3 floats."""
    stem = by_name(d0)["backbone.conv_stem"]
    assert (stem.op_class, stem.part, stem.output_shape) == ("stem conv", "stem", (1, 32, 256, 256))
    assert stem.macs == 27 * 32 * 256 * 256
    assert stem.bytes_read == 4 * 3 * 512 * 512
    assert stem.bytes_weights == 4 * (27 * 32 + 32)
    assert stem.bytes_written == 4 * 32 * 256 * 256


def test_depthwise_and_pointwise_of_a_bifpn_node(d0):
    """At P3 of D0: 64 x 64 cells of 64 channels."""
    layers = by_name(d0, "fp16")
    depthwise, pointwise = (layers[f"fpn.cell.0.fnode.3.conv_{kind}"] for kind in ("dw", "pw"))
    assert (depthwise.op_class, depthwise.part, depthwise.macs) == ("depthwise", "BiFPN", 9 * 64 * 4096)
    assert (pointwise.op_class, pointwise.part, pointwise.macs) == ("pointwise", "BiFPN", 64 * 64 * 4096)
    assert pointwise.bytes_read == pointwise.bytes_written == 2 * 64 * 4096
    assert pointwise.bytes_weights == 2 * (64 * 64 + 64)


def test_each_layer_has_a_known_class_and_part(d0):
    for model in (d0, graph_of("tf_efficientdet_lite0"), graph_of("tf_efficientdet_d0", pool_padding="zeros")):
        layers = compute_layer_costs(model)
        assert len(layers) == len(model.graph.node)
        assert {layer.part for layer in layers} == set(PARTS) - {"best anchors"}
        assert {layer.op_class for layer in layers} <= set(OP_CLASSES)


def test_totals_are_those_of_the_mac_count(d0):
    layers = compute_layer_costs(d0)
    assert {layer.name: layer.macs for layer in layers if layer.macs} == count_conv_macs(d0)
    assert sum(layer.macs for layer in layers) == sum(count_conv_macs(d0).values())


@pytest.mark.parametrize(("name", "published"), [("d0", 2.54e9), ("d1", 6.10e9), ("d2", 11.0e9)])
def test_macs_are_the_published_ones(name, published):
    """google/automl's table; the composed projection (export/fusion/compose.py) takes up to 3 % off."""
    macs = sum(layer.macs for layer in compute_layer_costs(graph_of(f"tf_efficientdet_{name}")))
    assert 0.955 < macs / published < 1.005


def test_bytes_follow_the_precision_but_the_cameras_do_not(d0):
    full, half, int8 = (by_name(d0, precision) for precision in ("fp32", "fp16", "int8"))
    name = "backbone.blocks.0.0.conv_dw"
    assert full[name].bytes_moved == 2 * half[name].bytes_moved == 4 * int8[name].bytes_moved
    assert {layers["pixels.float"].bytes_read for layers in (full, half, int8)} == {512 * 512 * 3}


def test_activations_are_marked(d0):
    layers = by_name(d0)
    assert layers["backbone.conv_stem.sigmoid"].is_activation
    assert layers["backbone.conv_stem.swish"].is_activation
    assert not layers["backbone.blocks.0.0.se.gate"].is_activation


def test_weights_of_qdq_graphs_are_weights():
    onnx_helper = onnx.helper
    node = onnx_helper.make_node
    tensor = onnx_helper.make_tensor
    info = onnx_helper.make_tensor_value_info
    graph = onnx_helper.make_graph(
        [
            node("QuantizeLinear", ["pixels", "s", "z"], ["q"], name="fpn.a.quantize"),
            node("DequantizeLinear", ["q", "s", "z"], ["dq"], name="fpn.a.dequantize"),
            node("DequantizeLinear", ["w8", "s", "z"], ["w"], name="fpn.a.weight"),
            node("Conv", ["dq", "w"], ["class_logits"], name="fpn.a"),
        ],
        "g",
        [info("pixels", onnx.TensorProto.FLOAT, [1, 2, 4, 4])],
        [info("class_logits", onnx.TensorProto.FLOAT, [1, 3, 4, 4])],
        [
            tensor("s", onnx.TensorProto.FLOAT, [], [0.1]),
            tensor("z", onnx.TensorProto.INT8, [], [0]),
            tensor("w8", onnx.TensorProto.INT8, [3, 2, 1, 1], [1] * 6),
        ],
    )
    model = onnx_helper.make_model(graph, opset_imports=[onnx_helper.make_opsetid("", 17)])
    layers = by_name(model, "int8")
    assert list(layers) == ["fpn.a.quantize", "fpn.a.dequantize", "fpn.a"]
    conv = layers["fpn.a"]
    assert (conv.op_class, conv.macs, conv.bytes_read, conv.bytes_weights) == ("pointwise", 3 * 2 * 16, 32, 6)
    assert math.prod(conv.output_shape) == conv.bytes_written == 48


def test_foreign_graphs_and_precisions_are_refused(d0):
    with pytest.raises(InputError, match="fp32, fp16, int8; got 'bf16'"):
        compute_layer_costs(d0, "bf16")
    foreign = onnx.ModelProto()
    foreign.CopyFrom(d0)
    foreign.graph.node[5].name = "model/conv2d"
    with pytest.raises(InputError, match="not one that edgedet export writes"):
        compute_layer_costs(foreign)


def test_what_keeps_the_best_anchors_is_a_part_of_its_own(d0):
    costs = compute_layer_costs(keep_top_anchors(d0, 100), "fp16")
    part = [layer for layer in costs if layer.part == "best anchors"]
    assert [layer.op_class for layer in part] == ["selection"] * 5 + ["layout"]
    assert sum(layer.macs for layer in part) == 0
