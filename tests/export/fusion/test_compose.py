"""Linear 1 x 1 convolutions in a row become fewer multiplications, and compute the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the export extra")
ort = pytest.importorskip("onnxruntime", reason="runs the graphs")

from onnx import TensorProto

from edgedet.export.fusion.compose import compose_pointwise
from edgedet.export.fusion.graph_builder import GraphBuilder, Value

X = Value("x", (1, 8, 3, 5))


def graph(middle: int, outputs: list[int], bias: bool = True, between: str | None = None) -> tuple[GraphBuilder, list]:
    """8 channels -> ``middle`` -> one convolution for each of ``outputs``."""
    rng = np.random.default_rng(0)
    g = GraphBuilder()
    first = g.conv(X, rng.normal(size=(middle, 8, 1, 1)), rng.normal(size=middle) if bias else None, "first")
    if between:
        first = g.op(between, [first.name], first.shape, "between")
    ends = [
        g.conv(first, rng.normal(size=(n, middle, 1, 1)), rng.normal(size=n) if k else None, f"second.{k}")
        for k, n in enumerate(outputs)
    ]
    return g, ends


def run(g: GraphBuilder, ends: list[Value]) -> list[np.ndarray]:
    model = g.model([(X, TensorProto.FLOAT)], ends, {})
    x = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})


@pytest.mark.parametrize("bias", [True, False])
def test_a_wide_convolution_is_multiplied_into_its_narrow_readers(bias: bool) -> None:
    """8 -> 40 -> 2 + 3: 8*40 + 40*5 = 520 multiplications a pixel become 8*5 = 40."""
    wanted = run(*graph(40, [2, 3], bias))
    g, ends = graph(40, [2, 3], bias)
    compose_pointwise(g)
    assert [node.name for node in g.nodes] == ["second.0", "second.1"]
    assert "first.weight" not in g.constants
    for ours, theirs in zip(run(g, ends), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_bottleneck_stays() -> None:
    """8 -> 2 -> 16: 16 + 32 = 48 multiplications; 8 -> 16 would be 128."""
    g, _ = graph(2, [16])
    compose_pointwise(g)
    assert len(g.nodes) == 2


@pytest.mark.parametrize("between", ["Sigmoid", "Relu"])
def test_an_activation_between_keeps_both(between: str) -> None:
    g, _ = graph(40, [2], between=between)
    compose_pointwise(g)
    assert len(g.nodes) == 3


def test_another_reader_keeps_it() -> None:
    """A sum reads the middle as well."""
    g, ends = graph(40, [2])
    middle = g.values["first"]
    g.op("Add", [middle.name, middle.name], middle.shape, "sum")
    compose_pointwise(g)
    assert [node.name for node in g.nodes] == ["first", "second.0", "sum"]


def test_d0_and_lite0_lose_one_convolution_and_d1_none() -> None:
    """D1's last stage has two blocks, and the second adds the first's output."""
    torch = pytest.importorskip("torch", reason="needs the export extra")
    from edgedet.artifact import ArtifactMeta
    from edgedet.export.fusion.fuse import graph_from_network
    from edgedet.export.network.efficientdet import EfficientDet
    from edgedet.specs import SPECS

    for name, convolutions, last in (
        ("tf_efficientdet_d0", 213, "blocks.6.0.conv_pwl"),
        ("tf_efficientdet_lite0", 181, "blocks.6.0.conv_pwl"),
        ("tf_efficientdet_d1", 264, None),
    ):
        spec = replace(SPECS[name], num_classes=2, input_hw=(128, 128))
        with torch.no_grad():
            model = graph_from_network(EfficientDet(spec).eval(), ArtifactMeta(spec, ("a", "b"), "fp32", "0" * 64))
        names = [node.name for node in model.graph.node if node.op_type == "Conv"]
        assert len(names) == convolutions
        if last is None:
            assert "backbone.blocks.6.1.conv_pwl" in names
        else:
            assert f"backbone.{last}" not in names
