"""Count the multiply-accumulates of an exported graph, float or Q/DQ."""

from __future__ import annotations

import math

import onnx
from onnx import shape_inference

from edgedet.errors import InputError


def read_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that nodes make or read, constants included.

    Float graphs hold the shapes; those of Q/DQ graphs are inferred. Raises InputError where one is not static.
    """
    if len(model.graph.value_info) + len(model.graph.output) < len(model.graph.node):
        model = shape_inference.infer_shapes(model)
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    shapes = {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in values}
    shapes.update({item.name: tuple(item.dims) for item in model.graph.initializer})
    for node in model.graph.node:
        for name in node.output:
            if 0 in shapes.get(name, (0,)):
                raise InputError(f"the graph does not say the size of {name}: export it with a fixed input size.")
    return shapes


def count_conv_macs(model: onnx.ModelProto) -> dict[str, int]:
    """Return the multiply-accumulates of each Conv node, by its name."""
    shapes = read_shapes(model)
    return {
        node.name: math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        for node in model.graph.node
        if node.op_type == "Conv"
    }
