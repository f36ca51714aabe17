"""Multiply-accumulates of a model file, as the file has them. Knows .onnx and .tflite, and needs their packages."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgedet.engines.tflite_file import read_trailer
from edgedet.errors import EdgeDetError

# TFLite's convolutions -> axes of the weight that a cell of the output takes a product of (its schema: a convolution's
# weight is OHWI, a depthwise one's 1HWC)
_WEIGHT_AXES = {"CONV_2D": (1, 2, 3), "DEPTHWISE_CONV_2D": (1, 2)}


def macs_of(path: Path) -> int | None:
    """Return the multiply-accumulates of one picture; None for engines, and where no package here reads the file."""
    try:
        if path.suffix == ".onnx" and find_spec("onnx") is not None:
            import onnx

            from edgedet.export.macs import conv_macs

            return sum(conv_macs(onnx.load(path)).values())
        if path.suffix == ".tflite" and find_spec("ai_edge_litert") is not None:
            return tflite_macs(read_trailer(path)[1])
    except EdgeDetError:  # a file that another exporter wrote: it is measured without
        return None
    return None


def tflite_macs(flatbuffer: bytes) -> int:
    """Return the multiply-accumulates of a .tflite file's convolutions."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model: Any = schema.Model.GetRootAs(flatbuffer)
    graph = model.Subgraphs(0)
    total = 0
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        axes = _WEIGHT_AXES.get(names[model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()])
        if axes is not None:
            output = graph.Tensors(operator.Outputs(0)).ShapeAsNumpy()
            weight = graph.Tensors(operator.Inputs(1)).ShapeAsNumpy()
            total += math.prod(map(int, output)) * math.prod(int(weight[axis]) for axis in axes)
    return total
