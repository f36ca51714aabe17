"""What tests of the SIMULATED TensorRT share: versions, and building and loading an engine in this process."""

from __future__ import annotations

import importlib
from pathlib import Path

import onnx
import trt_api

from edgedet.engines.tensorrt.build import BuildOptions, Recipe, build_plan
from edgedet.engines.tensorrt.cuda import open_cuda
from edgedet.engines.tensorrt.engine import TrtEngine
from edgedet.engines.tensorrt.engine_file import read_engine

V = "10.3.0"
VERSIONS = trt_api.versions()
OPTIONS = BuildOptions(64 << 20)
NAMES = {"tiny.onnx", "tiny_int8.onnx", "tiny_int8_fp16.onnx", "tiny_int8.engine"}  # an engine and the files beside it


def load(path: Path, **options) -> TrtEngine:
    meta, plan = read_engine(path)
    return TrtEngine(importlib.import_module("tensorrt"), open_cuda(), meta, plan, **options)


def planned(trt, recipe: Recipe, options: BuildOptions = OPTIONS) -> onnx.ModelProto:
    """Build in this process and return the network that was built."""
    plan, layers = build_plan(trt, recipe, options, lambda phase, done, steps: None)
    assert layers > 20
    return onnx.load_from_string(plan.partition(b"\n")[2])


def quantised_convs(model: onnx.ModelProto) -> set[str]:
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    return {n.name for n in model.graph.node if n.op_type == "Conv" and made.get(n.input[0]) == "DequantizeLinear"}


def all_convs(model: onnx.ModelProto) -> set[str]:
    return {node.name for node in model.graph.node if node.op_type == "Conv"}
