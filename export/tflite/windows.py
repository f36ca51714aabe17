"""Write the ONNX operators that slide a window or pad its input: Conv, MaxPool and Pad."""

from __future__ import annotations

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema

from edgedet.calibration.placement.plan import read_conv_constants
from edgedet.errors import UnsupportedError
from edgedet.export.tflite.builder import Scales
from edgedet.export.tflite.op_writer import NHWC_AXES, OpWriter, make_scales, read_attributes

LARGEST_BIAS = 2**30  # int32, with room for the sum of products that is added to it


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return how many cells TFLite's SAME padding adds before and after one axis."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _window(w: OpWriter, node: onnx.NodeProto, pad_value: float | None) -> tuple[int, int, tuple[int, int]]:
    """Return (input tensor, TFLite's padding, strides) of a convolution or pool, with a PAD in front where needed.

    pad_value: the number that an explicit PAD fills in; None for 0.
    """
    values = read_attributes(node)
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
        padded = w.builder.tensor(name, shape, np.int8, make_scales(w.params(node.input[0])))
    inputs = [x, w.integers(f"{name}.pads", np.array([(0, 0), *pads_hw, (0, 0)]))]
    if pad_value is None:
        w.builder.op("PAD", inputs, [padded])
    else:
        scales = None if w.plan is None else make_scales(w.params(node.input[0]))
        lowest = np.array([pad_value], np.float32) if w.plan is None else np.array([-128], np.int8)
        w.builder.op("PADV2", [*inputs, w.builder.constant(f"{name}.value", lowest, scales)], [padded])
    return padded, schema.Padding.VALID, strides


def conv(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a Conv as CONV_2D, or as DEPTHWISE_CONV_2D where each channel is its own group."""
    values = read_attributes(node)
    weight, bias = read_conv_constants(node, w.constants)
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
        integers, scales, int_bias = round_conv(q.weight, q.scales, q.bias, x_scale)
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
    values = read_attributes(node)
    _, _, width, channels = w.shape(node.input[0])
    shape = (values["kernel_shape"], values["strides"], channels, width % 2, values["pads"][1])
    return shape == ([3, 3], [2, 2], 3, 0, 0)


def _pair_columns(w: OpWriter, node: onnx.NodeProto, x: int) -> int:
    """Write a view of (1, H, W, C) as (1, H, W / 2, 2 C); return its tensor."""
    _, h, width, channels = w.shape(node.input[0])
    shape = (1, h, width // 2, 2 * channels)
    pairs = w.builder.tensor(f"{node.output[0]}.pairs", shape, np.int8, make_scales(w.params(node.input[0])))
    w.builder.op("RESHAPE", [x, w.integers(f"{node.output[0]}.shape", np.array(shape))], [pairs], newShape=list(shape))
    return pairs


def round_conv(
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
    if read_attributes(node).get("mode", b"constant") != b"constant" or len(node.input) != 2:
        raise UnsupportedError(f"Pad {node.name} fills in something else than 0, the only one that this writer knows.")
    starts, ends = w.constants[node.input[1]].reshape(2, 4)[:, list(NHWC_AXES)]
    amounts = w.integers(f"{node.output[0]}.pads", np.stack([starts, ends], axis=1))
    w.builder.op("PAD", [w.tensors[node.input[0]], amounts], [w.output(node.output[0])[0]])


def max_pool(w: OpWriter, node: onnx.NodeProto) -> None:
    """Write a MaxPool as MAX_POOL_2D; padding is never the maximum."""
    x, padding, (stride_h, stride_w) = _window(w, node, float(np.finfo(np.float32).min))
    kernel = read_attributes(node)["kernel_shape"]
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
