"""Let a graph take any number of pictures at once: its batch becomes an open dimension.

Constants that name the batch are the shapes of Reshapes and the sizes of Resizes. A Reshape copies a dimension where
its shape says 0; a Resize by a factor names no size. Nothing else of these graphs depends on the number of pictures.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from edgedet.artifact import MOST_BATCH
from edgedet.calibration.graph.macs import read_shapes
from edgedet.engines.ort import BATCH_NAME
from edgedet.errors import InputError
from edgedet.specs import DetectorSpec


def check_batch(count: int, spec: DetectorSpec | None = None) -> None:
    """Raise InputError for a number of pictures that no file takes, or an input size whose levels are not halves."""
    if not 1 <= count <= MOST_BATCH:
        raise InputError(f"--batch takes 1 to {MOST_BATCH} pictures; got {count}.")
    step = 1 if spec is None else 2**spec.max_level
    if count > 1 and spec is not None and any(side % step for side in spec.input_hw):
        h, w = spec.input_hw
        raise InputError(f"--batch needs sides that are multiples of {step}; the input is {h}x{w}: add --size HxW.")


def has_open_batch(model: onnx.ModelProto) -> bool:
    """Return whether a graph takes any number of pictures."""
    return model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == BATCH_NAME


def open_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with an open first dimension of its input, its outputs and what is between them.

    Raises InputError where a feature is not enlarged by a whole factor (``check_batch``).
    """
    shapes = read_shapes(model)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Reshape":
            _set_batch(constants[node.input[1]], 1, 0)
        elif node.op_type == "Resize":
            sizes = numpy_helper.to_array(constants[node.input[3]])
            factors = sizes / np.array(shapes[node.input[0]])
            if (factors != np.rint(factors)).any():
                raise InputError(
                    f"--batch needs pyramid levels of which each is half the one before, but {node.name} resizes by "
                    f"{factors[2:]}: leave --batch out."
                )
            _read_constant(graph, node, 2, f"{node.name}.factors", factors.astype(np.float32))
    for value in (*graph.input, *graph.output, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if len(dims) > 1:
            dims[0].dim_param = BATCH_NAME
    return result


def close_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph of one picture that ``open_batch`` was given."""
    if not has_open_batch(model):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {item.name: item for item in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == BATCH_NAME:
                dim.dim_value = 1
    for node in graph.node:
        if node.op_type == "Reshape":
            _set_batch(constants[node.input[1]], 0, 1)
    shapes = read_shapes(result)
    for node in graph.node:
        if node.op_type == "Resize":
            sizes = np.array(shapes[node.output[0]], np.int64)
            _read_constant(graph, node, 3, f"{node.name}.sizes", sizes)
    return result


def _set_batch(shape: onnx.TensorProto, old: int, new: int) -> None:
    values = numpy_helper.to_array(shape).copy()
    if values.size > 1 and values[0] == old:
        values[0] = new
        shape.CopyFrom(numpy_helper.from_array(values, shape.name))


def _read_constant(graph: onnx.GraphProto, node: onnx.NodeProto, index: int, name: str, value: np.ndarray) -> None:
    """Let a Resize read its third or fourth input, factors or sizes, from a new constant; the other one is left out."""
    old = next(item for item in graph.initializer if item.name == node.input[-1])
    graph.initializer.append(numpy_helper.from_array(value, name))
    node.input[:] = [node.input[0], *[""] * (index - 1), name]
    if not any(old.name in other.input for other in graph.node):
        graph.initializer.remove(old)
