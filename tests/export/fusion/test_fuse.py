"""What the fused graph must and must not contain, and that each rewrite leaves the outputs as they were."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

import onnx
from models import random_network, random_pixels, relative_error, run_onnx  # noqa: E402

from edgedet.artifact import META_KEY, ArtifactMeta
from edgedet.export.fusion.fuse import compute_edge_weights, compute_node_scales, graph_from_network
from edgedet.export.fusion.graph_builder import GraphBuilder, Value
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.export.verify import network_input
from edgedet.specs import SPECS

D0 = replace(SPECS["tf_efficientdet_d0"], num_classes=2)


def graph_of(network: EfficientDet) -> onnx.GraphProto:
    names = tuple(f"class_{i}" for i in range(network.spec.num_classes))
    return graph_from_network(network, ArtifactMeta(network.spec, names, "fp32", "0" * 64)).graph


@pytest.fixture(scope="module")
def d0() -> onnx.GraphProto:
    return graph_of(random_network(D0))


def test_d0_has_586_nodes_of_twelve_kinds(d0: onnx.GraphProto) -> None:
    """effdet's plain export of the same model has 635 (dynamo) or 2,393 (legacy)."""
    kinds = Counter(node.op_type for node in d0.node)
    assert len(d0.node) == 586
    assert set(kinds) == {
        "Cast",
        "Sub",
        "Transpose",
        "Conv",
        "Sigmoid",
        "Mul",
        "Add",
        "MaxPool",
        "Resize",
        "GlobalAveragePool",
        "ReduceMean",
        "Reshape",
        "Concat",
    }
    assert kinds["Transpose"] == 3  # the input, and one an output
    assert kinds["Concat"] == 2  # one an output


def test_bifpn_has_only_sums_of_constantly_weighted_inputs(d0: onnx.GraphProto) -> None:
    """No Relu, ReduceSum, Div or Concat: the weights are numbers by now."""
    kinds = Counter(node.op_type for node in d0.node if node.name.startswith("fpn."))
    assert set(kinds) == {"Conv", "Sigmoid", "Mul", "Add", "MaxPool", "Resize"}
    constants = {item.name for item in d0.initializer}
    weighted = [node for node in d0.node if node.name.startswith("fpn.") and node.name.endswith(".weighted")]
    assert all(node.op_type == "Mul" and node.input[1] in constants for node in weighted)
    assert len(weighted) <= 30  # of D0's 57 edges; the others' weights are inside convolutions


def test_every_swish_is_a_sigmoid_and_mul_right_behind_its_convolution_or_sum(d0: onnx.GraphProto) -> None:
    maker = {node.output[0]: node for node in d0.node}
    swishes = [node for node in d0.node if node.name.endswith(".swish")]
    assert len(swishes) == 102  # the other 16 sigmoids are the gates of squeeze-excite
    for node in swishes:
        before, gate = (maker[name] for name in node.input)
        assert (gate.op_type, list(gate.input)) == ("Sigmoid", [before.output[0]])
        assert before.op_type in ("Conv", "Add")


def test_depthwise_and_pointwise_are_neighbours_in_bifpn_and_heads(d0: onnx.GraphProto) -> None:
    depthwise = [node for node in d0.node if ".conv_dw" in node.name and not node.name.startswith("backbone")]
    depthwise = [node for node in depthwise if node.op_type == "Conv"]
    assert len(depthwise) == 3 * 8 + 2 * 4 * 5
    follower = {name: node for node in d0.node for name in node.input}
    assert all(".conv_pw" in follower[node.output[0]].name for node in depthwise)


def test_the_metadata_inside_the_file_is_read_back() -> None:
    meta = ArtifactMeta(D0, ("cat", "dog"), "fp32", "0" * 64, versions={"edgedet": "x"})
    model = graph_from_network(random_network(D0), meta)
    stored = {item.key: item.value for item in model.metadata_props}[META_KEY]
    assert ArtifactMeta.from_json(stored) == meta


@pytest.mark.parametrize("raw", [(1.0, 0.0), (-1.0, 0.5)])
@torch.inference_mode()
def test_an_edge_of_weight_zero_is_removed(raw: tuple[float, float]) -> None:
    spec = replace(D0, input_hw=(128, 128))
    network = random_network(spec)
    node = network.fpn.cells[1].nodes[0]
    node.combine.edge_weights.copy_(torch.tensor(raw))
    names = [item.name for item in graph_of(network).node]
    assert "fpn.cell.1.fnode.0.combine" not in names  # nothing left to add
    assert len(compute_edge_weights(node)) == 1
    pixels = random_pixels(spec)
    for got, wanted in zip(run_onnx(network, pixels), network(network_input(pixels, spec)), strict=True):
        assert relative_error(got, wanted) < 1e-4


@torch.inference_mode()
def test_a_node_without_any_positive_weight_still_exports() -> None:
    spec = replace(D0, input_hw=(128, 128))
    network = random_network(spec)
    network.fpn.cells[1].nodes[2].combine.edge_weights.fill_(-1.0)
    pixels = random_pixels(spec)
    for got, wanted in zip(run_onnx(network, pixels), network(network_input(pixels, spec)), strict=True):
        assert relative_error(got, wanted) < 1e-4


def test_a_node_is_scaled_by_the_weight_of_its_costliest_edge() -> None:
    """Node 3 (P3 of the first cell) feeds P4's bottom-up node, pooled to P4's size, and the next cell's P3 node at full
    size: the latter is the costlier, so its weight is the scale."""
    network = random_network(D0)
    wanted = compute_edge_weights(network.fpn.cells[1].nodes[3])[0]
    assert compute_node_scales(network.fpn, D0.level_sizes())[0][3] == pytest.approx(wanted)


def test_plain_sums_multiply_by_nothing() -> None:
    network = random_network(replace(SPECS["tf_efficientdet_lite0"], num_classes=2))
    kinds = Counter(node.op_type for node in graph_of(network).node)
    assert kinds["Mul"] == 0
    assert kinds["Clip"] > 0


def test_a_mean_over_a_large_map_is_not_added_up_pixel_by_pixel() -> None:
    """onnxruntime's GlobalAveragePool is 1e-5 and more off over 64 x 64 pixels, in the layout that it gives convs."""
    ort = pytest.importorskip("onnxruntime", reason="needs the export extra")
    builder = GraphBuilder()
    x = Value("x", (1, 32, 64, 64))
    moved = builder.conv(x, np.eye(32, dtype=np.float32).reshape(32, 32, 1, 1), None, "conv")
    model = builder.model([(x, onnx.TensorProto.FLOAT)], [builder.mean(moved, "mean")], {})
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    levels = np.linspace(0.1, 0.9, 32, dtype=np.float32)  # a channel of equal pixels rounds the same way each time
    (found,) = session.run(None, {"x": np.broadcast_to(levels[None, :, None, None], x.shape).copy()})
    np.testing.assert_allclose(found[0, :, 0, 0], levels, rtol=2e-6, atol=0)


def test_two_constants_of_one_name_must_be_equal() -> None:
    graph = GraphBuilder()
    graph.constant("a", np.float32(1))
    graph.constant("a", np.float32(1))
    with pytest.raises(ValueError, match="two different constants are called a"):
        graph.constant("a", np.float32(2))
