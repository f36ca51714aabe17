"""NVIDIA's own ONNX parsers of TensorRT 8.5 and 8.6 take our files, and understand them as onnxruntime does.

The parser is NVIDIA's, the network that it fills is a SIMULATION (scripts/trt_parser/). Nothing is said of the builder.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from trt_models import write_models

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

from check_trt_parser import WITHIN, output_differences
from trt_parser.build import Parser, find_parser
from trt_parser.interface import header_from_impl
from trt_parser.parsed import differences_from_onnx, parse

SKIPPED = "NVIDIA's parser is not in the cache: scripts/check_trt_parser.py fetches and builds it"
IMPL = """
class VRoot {};
class VTopKLayer : public VRoot
{
public:
    virtual void setK(int32_t k) noexcept = 0; // a comment
    virtual int32_t getK() const noexcept = 0;
    virtual void setOperation(int32_t index,
        TopKOperation op) noexcept = 0;
    virtual TopKOperation getOperation(int32_t index) const noexcept = 0;
};
class VBuilder : public VRoot
{
    virtual void reset() noexcept = 0;
};
"""


@pytest.fixture(params=["8.5", "8.6"])
def parser(request: pytest.FixtureRequest) -> Parser:
    return find_parser(request.param) or pytest.skip(SKIPPED)


def kinds_of(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(
    ("name", "top_anchors", "max_batch"),
    [("tiny.onnx", 0, 1), ("tiny.onnx", 1000, 4), ("tiny_int8.onnx", 1000, 1), ("tiny_int8.onnx", 0, 4)],
)
def test_the_parser_takes_every_node_and_computes_the_same(
    parser: Parser, name: str, top_anchors: int, max_batch: int, tmp_path: Path
):
    write_models(tmp_path, top_anchors=top_anchors, max_batch=max_batch)
    path = tmp_path / name
    model = onnx.load(path)
    parsed = parse(parser, path)
    assert parsed.refusal == ""
    compared, differences = differences_from_onnx(parsed, model)
    assert differences == []
    assert compared >= len(model.graph.node)
    assert max(output_differences(parsed, model, batch=max_batch).values()) <= WITHIN
    assert parsed.network["outputs"] == [output.name for output in model.graph.output]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_whole_d0_is_taken(parser: Parser, precision: str, tmp_path: Path):
    pytest.importorskip("torch", reason="needs the export extra")
    from models import random_network, random_pixels
    from sparse_models import sparse_model

    from edgedet.artifact import ArtifactMeta
    from edgedet.export.onnx_file import write_onnx
    from edgedet.specs import SPECS

    spec = replace(SPECS["tf_efficientdet_d0"], num_classes=3, input_hw=(128, 128))
    graphs = dict(zip(("fp32", "int8"), sparse_model(random_network(spec), random_pixels(spec))[:2], strict=True))
    meta = ArtifactMeta(spec, ("a", "b", "c"), precision, "0" * 64, max_batch=2).with_top_anchors(1000)
    write_onnx(graphs[precision], meta, tmp_path / "d0.onnx")
    model = onnx.load(tmp_path / "d0.onnx")
    parsed = parse(parser, tmp_path / "d0.onnx")
    assert parsed.refusal == ""
    assert parsed.layers()["convolution"] == 213
    assert differences_from_onnx(parsed, model)[1] == []
    assert max(output_differences(parsed, model, batch=2).values()) <= WITHIN


def test_what_tensorrt_8_cannot_read_is_refused(parser: Parser, tmp_path: Path):
    """FP16 scales and integer weights; `edgedet build` gives 8.x the other file (choose_file)."""
    write_models(tmp_path)
    refusal = parse(parser, tmp_path / "tiny_int8_fp16.onnx").refusal
    assert refusal == "a constant of 8-bit integers, which TensorRT 8 does not take (4)"


def test_a_zero_point_is_refused_with_nvidia_s_reason(parser: Parser, tmp_path: Path):
    model = onnx.load(write_models(tmp_path))
    (zero,) = (item for item in model.graph.initializer if item.name == "pixels.nchw.zero")
    zero.CopyFrom(numpy_helper.from_array(np.int8(3), zero.name))
    onnx.save(model, tmp_path / "x.onnx")
    assert "only supports symmetric quantization" in parse(parser, tmp_path / "x.onnx").refusal


def test_a_layer_that_is_not_simulated_is_named(parser: Parser, tmp_path: Path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["y"])],
        "x",
        [value("x", TensorProto.FLOAT, [2, 3])],
        [value("y", TensorProto.INT64, [2, None])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "x.onnx")
    assert parse(parser, tmp_path / "x.onnx").refusal == "VNetworkDefinition::addNonZero is not simulated (3)"


def test_another_padding_is_seen(parser: Parser, tmp_path: Path):
    """That outputs are compared at all: the network of one file against another file."""
    model = onnx.load(write_models(tmp_path).with_name("tiny.onnx"))
    parsed = parse(parser, tmp_path / "tiny.onnx")
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "pads" and node.op_type == "Conv":
                attribute.ints[:] = [0, 0, 2, 2]
    assert differences_from_onnx(parsed, model)[1] == []  # the shapes are the same
    assert max(output_differences(parsed, model, batch=1).values()) > WITHIN


def test_settings_are_kept_and_other_functions_refused(tmp_path: Path):
    (tmp_path / "NvInferImpl.h").write_text(IMPL)
    header = header_from_impl(tmp_path / "NvInferImpl.h")
    assert "struct StoredTopKLayer : apiv::VTopKLayer, Watched" in header
    assert "void setK(int32_t k) noexcept override { mK = k; changed(); }" in header
    assert "int32_t getK() const noexcept override { return mK; }" in header
    assert header.count('{ refuse("VTopKLayer::setOperation"); }') == 1
    assert header.count('{ refuse("VTopKLayer::getOperation"); }') == 1
    assert "VBuilder" not in header
