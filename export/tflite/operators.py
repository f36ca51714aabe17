"""Write ONNX operators as TFLite operators, one function each; NCHW becomes NHWC without transposing.

An INT8 file takes its integers from the plan (``calibration.placement.plan``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import helper

from edgedet.calibration.placement.plan import (
    RELU6_LIMITS,
    DensePlan,
    QuantParams,
    clip_limits,
    conv_constants,
    quantised_factor,
)
from edgedet.errors import UnsupportedError
from edgedet.export.tflite.builder import Scales, TfliteBuilder

BYTE_TO_INT8 = QuantParams(1.0, -128)  # of camera bytes with their top bit flipped
LARGEST_BIAS = 2**30  # int32, and room for the sum of products beside it
_NHWC = (0, 2, 3, 1)  # ONNX axis of each TFLite axis
_WIDTH = 3  # ONNX axis


@dataclass
class OpWriter:
    """Writes the operators of one graph, and remembers which TFLite tensor holds which ONNX value.

    shapes:   of every ONNX value, in ONNX's order of axes.
    plan:     scales and integers of an INT8 file; None for float32.
    relu6_of: value -> the output of the Clip behind it, where one operator computes both.
    tensors:  ONNX value -> number of its TFLite tensor.
    """

    builder: TfliteBuilder
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    plan: DensePlan | None
    relu6_of: dict[str, str]
    tensors: dict[str, int] = field(default_factory=dict)

    def shape(self, value: str) -> tuple[int, int, int, int]:
        """Return (N, H, W, C) of a value that is NCHW in ONNX."""
        n, c, h, w = self.shapes[value]
        return n, h, w, c

    def output(self, value: str) -> tuple[int, int]:
        """Create the tensor that an operator writes for ``value``; return it and the activation fused into it."""
        name = self.relu6_of.get(value, value)
        self.tensors[name] = self.activation(name, self.shape(name))
        activation = schema.ActivationFunctionType
        return self.tensors[name], activation.NONE if name == value else activation.RELU6

    def activation(self, name: str, shape: Sequence[int]) -> int:
        """Create a tensor of the graph, float32 or int8 by the plan."""
        if self.plan is None:
            return self.builder.tensor(name, shape, np.float32)
        return self.builder.tensor(name, shape, np.int8, scales_of(self.params(name)))

    def params(self, name: str) -> QuantParams:
        """Return the plan's parameters of a tensor; raises UnsupportedError where it has none."""
        assert self.plan is not None
        if name not in self.plan.tensors:
            raise UnsupportedError(f"the plan of INT8 scales lacks the tensor {name}: calibrate this model again.")
        return self.plan.tensors[name]

    def integers(self, name: str, array: np.ndarray) -> int:
        """Add an int32 constant that is not quantised: axes, sizes, paddings."""
        return self.builder.constant(name, np.asarray(array, np.int32))


def scales_of(params: QuantParams) -> Scales:
    """Return one tensor's scale and zero point."""
    return Scales(np.array([params.scale], np.float32), params.zero_point)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python values."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return how many cells TFLite's SAME padding adds before and after one axis."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _window(w: OpWriter, node: onnx.NodeProto, pad_value: float | None) -> tuple[int, int, tuple[int, int]]:
    """Return (input tensor, TFLite's padding, strides) of a convolution or pool, with a PAD in front where needed.

    pad_value: the number that an explicit PAD fills in; None for 0.
    """
    values = attributes(node)
    kernel, strides, pads = values["kernel_shape"], values["strides"], values["pads"]
    _, height, width, channels = w.shape(node.input[0])
    pads_hw = [(pads[axis], pads[axis + 2]) for axis in range(2)]
    x, strides = w.tensors[node.input[0]], (int(strides[0]), int(strides[1]))
    if not any(pads):
        return x, schema.Padding.VALID, strides
    if pads_hw == [same_pads(size, k, s) for size, k, s in zip((height, width), kernel, strides, strict=True)]:
        return x, schema.Padding.SAME, strides
    name = f"{node.output[0]}.padded"
    shape = (1, height + sum(pads_hw[0]), width + sum(pads_hw[1]), channels)
    if w.plan is None:
        padded = w.builder.tensor(name, shape, np.float32)
    else:
        padded = w.builder.tensor(name, shape, np.int8, scales_of(w.params(node.input[0])))
    inputs = [x, w.integers(f"{name}.pads", np.array([(0, 0), *pads_hw, (0, 0)]))]
    if pad_value is None:
        w.builder.op("PAD", inputs, [padded])
    else:
        scales = None if w.plan is None else scales_of(w.params(node.input[0]))
        lowest = np.array([pad_value], np.float32) if w.plan is None else np.array([-128], np.int8)
        w.builder.op("PADV2", [*inputs, w.builder.constant(f"{name}.value", lowest, scales)], [padded])
    return padded, schema.Padding.VALID, strides


def conv(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a Conv as CONV_2D, or as DEPTHWISE_CONV_2D where each channel is its own group."""
    values = attributes(node)
    weight, bias = conv_constants(node, w.constants)
    groups, channels = values["group"], w.shape(node.input[0])[3]
    depthwise = groups == channels == len(weight) and weight.shape[1] == 1
    if (groups != 1 and not depthwise) or any(size != 1 for size in values.get("dilations", ())):
        raise UnsupportedError(
            f"convolution {node.name} is grouped or dilated in a way that this writer does not know."
        )
    x, padding, (stride_h, stride_w) = _window(w, node, None)
    axis = 3 if depthwise else 0
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    paired = w.plan is not None and padding == schema.Padding.SAME and _can_read_pairs(node, w)
    if paired:
        x, stride_w = _pair_columns(w, node, x), 1
    if w.plan is None:
        zeros = np.zeros(len(weight), np.float32)
        inputs = [
            w.builder.constant(node.input[1], weight.transpose(order)),
            w.builder.constant(f"{node.name}.bias", zeros if bias is None else bias),
        ]
    else:
        q = w.plan.convs[node.name]
        x_scale = w.params(node.input[0]).scale
        integers, scales, int_bias = integer_conv(q.weight, q.scales, q.bias, x_scale)
        integers = integers.transpose(order)
        if paired:  # 3 x 3 x 3 -> 3 x 2 x 6, the fourth column being zero
            integers = np.pad(integers, ((0, 0), (0, 0), (0, 1), (0, 0))).reshape(len(integers), 3, 2, -1)
        inputs = [
            w.builder.constant(node.input[1], integers, Scales(scales, axis=axis)),
            w.builder.constant(f"{node.name}.bias", int_bias, Scales(np.float32(x_scale) * scales)),
        ]
    y, activation = w.output(node.output[0])
    options = dict(padding=padding, strideH=stride_h, strideW=stride_w, fusedActivationFunction=activation)
    options.update(dilationHFactor=1, dilationWFactor=1)
    if depthwise:
        w.builder.op("DEPTHWISE_CONV_2D", [x, *inputs], [y], depthMultiplier=1, **options)
    else:
        w.builder.op("CONV_2D", [x, *inputs], [y], **options)


def _can_read_pairs(node: onnx.NodeProto, w: OpWriter) -> bool:
    """Return whether the convolution is a stem that steps over columns two by two, with nothing added on the left.

    XNNPACK pads three channels to four or eight. Two neighbouring columns as six channels hold the same bytes, and a
    kernel of half the width then multiplies fewer zeros (docs/decisions/0004-tflite.md).
    """
    values = attributes(node)
    _, _, width, channels = w.shape(node.input[0])
    shape = (values["kernel_shape"], values["strides"], channels, width % 2, values["pads"][1])
    return shape == ([3, 3], [2, 2], 3, 0, 0)


def _pair_columns(w: OpWriter, node: onnx.NodeProto, x: int) -> int:
    """Write a view of (1, H, W, C) as (1, H, W / 2, 2 C); return its tensor."""
    _, h, width, channels = w.shape(node.input[0])
    shape = (1, h, width // 2, 2 * channels)
    pairs = w.builder.tensor(f"{node.output[0]}.pairs", shape, np.int8, scales_of(w.params(node.input[0])))
    w.builder.op("RESHAPE", [x, w.integers(f"{node.output[0]}.shape", np.array(shape))], [pairs], newShape=list(shape))
    return pairs


def integer_conv(
    weight: np.ndarray, scales: np.ndarray, bias: np.ndarray | None, x_scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weight int8, its scales and the bias as int32 of scale x_scale x scales.

    A channel of (nearly) no weight has so small a scale that its bias leaves int32: it gets a larger scale, by which
    its weights are rounded again.
    """
    if bias is None:
        return weight, scales.astype(np.float32), np.zeros(len(weight), np.int32)
    needed = np.abs(bias.astype(np.float64)) / (x_scale * LARGEST_BIAS)
    fitting = np.maximum(scales, needed).astype(np.float32)
    if (fitting > scales).any():
        ratio = (scales.astype(np.float64) / fitting)[:, None, None, None]
        weight = np.rint(weight * ratio).astype(np.int8)
    integers = np.rint(bias.astype(np.float64) / (np.float64(x_scale) * fitting))
    return weight, fitting, integers.astype(np.int32)


def pad(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a Pad with 0 as PAD, which fills an INT8 tensor with its zero point."""
    if attributes(node).get("mode", b"constant") != b"constant" or len(node.input) != 2:
        raise UnsupportedError(f"Pad {node.name} fills in something else than 0, the only one that this writer knows.")
    starts, ends = w.constants[node.input[1]].reshape(2, 4)[:, list(_NHWC)]
    amounts = w.integers(f"{node.output[0]}.pads", np.stack([starts, ends], axis=1))
    w.builder.op("PAD", [w.tensors[node.input[0]], amounts], [w.output(node.output[0])[0]])


def max_pool(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a MaxPool as MAX_POOL_2D; padding is never the maximum."""
    x, padding, (stride_h, stride_w) = _window(w, node, float(np.finfo(np.float32).min))
    kernel = attributes(node)["kernel_shape"]
    y, activation = w.output(node.output[0])
    w.builder.op(
        "MAX_POOL_2D",
        [x],
        [y],
        padding=padding,
        strideH=stride_h,
        strideW=stride_w,
        filterHeight=int(kernel[0]),
        filterWidth=int(kernel[1]),
        fusedActivationFunction=activation,
    )


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
    integers, scale = quantised_factor(values)
    return w.builder.constant(name, integers, Scales(np.array([scale], np.float32)))


def logistic(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a Sigmoid as LOGISTIC."""
    w.builder.op("LOGISTIC", [w.tensors[node.input[0]]], [w.output(node.output[0])[0]])


def relu6(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a Clip as RELU6, where it is not part of the operator before it."""
    if clip_limits(node, w.constants) != RELU6_LIMITS:
        raise UnsupportedError(f"Clip {node.name} is not from 0 to 6, the only one that this writer knows.")
    w.builder.op("RELU6", [w.tensors[node.input[0]]], [w.output(node.output[0])[0]])


def mean(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a GlobalAveragePool, or two ReduceMeans in a row, as MEAN over height and width.

    Float keeps the two: XNNPACK too sums float32 one by one, which is 3e-4 off at D0's outputs. Integers sum exactly.
    """
    x, axes = w.tensors[node.input[0]], attributes(node).get("axes")
    if w.plan is not None and axes == [_WIDTH]:  # the first of two
        w.tensors[node.output[0]] = x
        return
    nhwc_axes = [1, 2] if w.plan is not None or axes is None else [_NHWC.index(axis) for axis in axes]
    w.builder.op(
        "MEAN", [x, w.integers("mean.axes", np.array(nhwc_axes))], [w.output(node.output[0])[0]], keepDims=True
    )


def resize(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a Resize as RESIZE_NEAREST_NEIGHBOR, with source index = floor(target index x in / out)."""
    values = attributes(node)
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
