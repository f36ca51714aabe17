"""Write ONNX operators as TFLite operators; NCHW becomes NHWC without transposing.

An INT8 file takes its integers from the plan (``calibration.placement.plan``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from edgedet.calibration.placement.plan import RELU6_LIMITS, quantise_factor, read_clip_limits
from edgedet.errors import UnsupportedError
from edgedet.export.tflite.builder import Scales
from edgedet.export.tflite.op_writer import NHWC_AXES, OpWriter, read_attributes
from edgedet.export.tflite.windows import conv, max_pool, pad

_WIDTH = 3  # ONNX axis


def binary(kind: str) -> Callable[[OpWriter, onnx.NodeProto], None]:
    """Return the writer of an Add, Mul or Sub; one side may be a constant, scalar or per channel of an NHWC value."""

    def write(w: OpWriter, node: onnx.NodeProto) -> None:
        inputs = [_operand(w, name) if name in w.constants else w.tensors[name] for name in node.input]
        y, activation = w.output(node.output[0])
        w.builder.op(kind, inputs, [y], fusedActivationFunction=activation)

    return write


def _operand(w: OpWriter, name: str) -> int:
    values = w.constants[name].reshape(-1)
    if w.plan is None:
        return w.builder.constant(name, values)
    integers, scale = quantise_factor(values)
    return w.builder.constant(name, integers, Scales(np.array([scale], np.float32)))


def logistic(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a Sigmoid as LOGISTIC."""
    w.builder.op("LOGISTIC", [w.tensors[node.input[0]]], [w.output(node.output[0])[0]])


def relu6(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a Clip as RELU6, where it is not part of the operator before it."""
    if read_clip_limits(node, w.constants) != RELU6_LIMITS:
        raise UnsupportedError(f"Clip {node.name} is not from 0 to 6, the only one that this writer knows.")
    w.builder.op("RELU6", [w.tensors[node.input[0]]], [w.output(node.output[0])[0]])


def mean(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a GlobalAveragePool, or two ReduceMeans in a row, as MEAN over height and width.

    Float keeps the two: XNNPACK too sums float32 one by one, which is 3e-4 off at D0's outputs. Integers sum exactly.
    """
    x, axes = w.tensors[node.input[0]], read_attributes(node).get("axes")
    if w.plan is not None and axes == [_WIDTH]:  # the first of two
        w.tensors[node.output[0]] = x
        return
    nhwc_axes = [1, 2] if w.plan is not None or axes is None else [NHWC_AXES.index(axis) for axis in axes]
    w.builder.op(
        "MEAN", [x, w.integers("mean.axes", np.array(nhwc_axes))], [w.output(node.output[0])[0]], keepDims=True
    )


def resize(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a Resize as RESIZE_NEAREST_NEIGHBOR, with source index = floor(target index x in / out)."""
    values = read_attributes(node)
    modes = tuple(values.get(key) for key in ("mode", "coordinate_transformation_mode", "nearest_mode"))
    if modes != (b"nearest", b"asymmetric", b"floor"):
        raise UnsupportedError(f"Resize {node.name} is {modes}, but only nearest, asymmetric, floor is known.")
    _, height, width, _ = w.shape(node.output[0])
    size = w.integers(f"{node.output[0]}.size", np.array([height, width]))
    y = w.output(node.output[0])[0]
    w.builder.op(
        "RESIZE_NEAREST_NEIGHBOR", [w.tensors[node.input[0]], size], [y], alignCorners=False, halfPixelCenters=False
    )


WRITERS: dict[str, Callable[[OpWriter, onnx.NodeProto], None]] = {
    "Add": binary("ADD"),
    "Clip": relu6,
    "Conv": conv,
    "GlobalAveragePool": mean,
    "MaxPool": max_pool,
    "Mul": binary("MUL"),
    "Pad": pad,
    "ReduceMean": mean,
    "Resize": resize,
    "Sigmoid": logistic,
}


def write_float_operator(w: OpWriter, real: OpWriter, node: onnx.NodeProto) -> None:
    """Write an operator that stays float among INT8 ones, with DEQUANTIZE before it and QUANTIZE behind it.

    real: the writer of the graph's float tensors.
    """
    for name in node.input:
        if name not in w.constants and name not in real.tensors:
            real.tensors[name] = real.activation(f"{name}.real", w.shape(name))
            w.builder.op("DEQUANTIZE", [w.tensors[name]], [real.tensors[name]])
    WRITERS[node.op_type](real, node)
    name = real.relu6_of.get(node.output[0], node.output[0])
    w.builder.tensors[real.tensors[name]].name = f"{name}.real"
    if w.plan is not None and name in w.plan.tensors:
        w.tensors[name] = w.activation(name, w.shape(name))
        w.builder.op("QUANTIZE", [real.tensors[name]], [w.tensors[name]])
