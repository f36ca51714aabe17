"""TFLite's INT8 arithmetic in exact integers, operator by operator, as an oracle for written files.

Requantisation follows XNNPACK, which is bit-identical on x86 and ARM: an exact int32 sum as float32, times a float32
ratio of scales, rounded half to even (src/reference/... qs8 requantization "fp32"); sums of two tensors by 20-bit
multipliers (src/microparams-init.c, xnn_init_qs8_add_minmax_scalar_params); means with the zero points in one float32
offset (src/operators/reduce-nd.c). Products and means are rounded otherwise on ARM; plans have no scale that shows it
(edgedet.calibration.placement.ties).
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper

from edgedet.calibration.placement.plan import CENTRED, DensePlan, QuantParams, read_initializers

F32 = np.float32


def integer_values(model: onnx.ModelProto, plan: DensePlan, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Return every INT8 value (N, C, H, W) of the plan, as int64, for pixels (1, H, W, 3) uint8."""
    constants = read_initializers(model)
    readers = Counter(name for node in model.graph.node for name in node.input)
    clip_of = {n.input[0]: n.output[0] for n in model.graph.node if n.op_type == "Clip" and readers[n.input[0]] == 1}
    centred = pixels.astype(np.int64) - 128
    values = {"pixels.nchw": centred.transpose(0, 3, 1, 2)}
    params = {**plan.tensors, "pixels.nchw": plan.tensors[CENTRED]}
    for node in model.graph.node:
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        source = [name for name in node.input if name in values]
        name = node.output[0]
        if name in values or not source or node.op_type in ("Reshape", "Concat"):
            continue
        x, q = values[source[0]], params[source[0]]
        if name.endswith(".rows"):
            values[name], params[name] = x, q
            continue
        output = clip_of.get(name, name)
        to = params[output]
        if node.op_type == "Conv":
            y = _conv(x, q, to, plan, node, attributes)
        elif node.op_type == "Add":
            y = _add(x, q, values[source[1]], params[source[1]], to)
        elif node.op_type == "Mul" and len(source) == 1:
            factor = constants[node.input[1]].reshape(1, -1, 1, 1)
            scale = F32(max(float(np.abs(factor).max()) / 127, 1e-8))
            y = _requantised((x - q.zero_point) * np.rint(factor / scale).astype(np.int64), F32(q.scale) * scale, to)
        elif node.op_type == "Mul":
            other, p = values[source[1]], params[source[1]]
            y = _requantised((x - q.zero_point) * (other - p.zero_point), F32(q.scale) * F32(p.scale), to)
        elif node.op_type == "Sigmoid":
            real = (np.arange(-128, 128) - q.zero_point) * F32(q.scale)
            table = np.clip(np.rint(256 / (1 + np.exp(-real.astype(np.float64)))) - 128, -128, 127).astype(np.int64)
            y = table[x + 128]
        elif node.op_type in ("GlobalAveragePool", "ReduceMean"):
            count = x.shape[2] * x.shape[3]
            ratio = F32(q.scale) / F32(to.scale) * (F32(1) / F32(count))
            moved = F32(to.zero_point) - F32(count * q.zero_point) * ratio
            total = x.sum((2, 3), keepdims=True).astype(F32)
            y = np.clip(np.rint(total * ratio + moved), -128, 127).astype(np.int64)
        elif node.op_type == "Pad":
            starts, ends = constants[node.input[1]].reshape(2, 4)
            y = np.pad(x, list(zip(starts, ends, strict=True)), constant_values=q.zero_point)
        elif node.op_type == "MaxPool":
            top, left, bottom, right = attributes["pads"]
            padded = F.pad(torch.from_numpy(x).double(), (left, right, top, bottom), value=-128)
            y = F.max_pool2d(padded, attributes["kernel_shape"], attributes["strides"]).long().numpy()
        elif node.op_type == "Resize":
            size = constants[node.input[3]][2:]
            rows, columns = (np.arange(n) * old // n for n, old in zip(size, x.shape[2:], strict=True))
            y = x[:, :, rows][:, :, :, columns]
        else:
            raise AssertionError(f"unknown operator {node.op_type}")
        if output != name:  # a fused ReLU6
            y = np.clip(y, to.zero_point, min(round(6.0 / to.scale) + to.zero_point, 127))
        values[output] = y
    return values


def _conv(x: np.ndarray, q: QuantParams, to: QuantParams, plan: DensePlan, node: onnx.NodeProto, attributes: dict):
    c = plan.convs[node.name]
    bias = np.zeros(len(c.weight)) if c.bias is None else c.bias.astype(np.float64)
    bias = np.rint(bias / (np.float64(q.scale) * c.scales))
    top, left, bottom, right = attributes["pads"]
    padded = F.pad(torch.from_numpy(x - q.zero_point).double(), (left, right, top, bottom))
    weight = torch.from_numpy(c.weight.astype(np.float64))
    total = F.conv2d(padded, weight, torch.from_numpy(bias), attributes["strides"], groups=attributes["group"])
    return _requantised(total.numpy(), F32(q.scale) * c.scales[:, None, None], to)


def _requantised(total: np.ndarray, scale: np.ndarray, to: QuantParams) -> np.ndarray:
    return _rounded(total, scale / F32(to.scale), to)


def _rounded(total: np.ndarray, ratio: np.ndarray, to: QuantParams) -> np.ndarray:
    moved = np.rint(total.astype(F32) * np.asarray(ratio, F32)) + to.zero_point
    return np.clip(moved, -128, 127).astype(np.int64)


def _add(a: np.ndarray, p: QuantParams, b: np.ndarray, q: QuantParams, to: QuantParams) -> np.ndarray:
    ratios = [F32(scale) / F32(to.scale) for scale in (p.scale, q.scale)]
    shift = 20 - (math.frexp(max(ratios))[1] - 1)
    first, second = (int(np.rint(float(ratio) * 2.0**shift)) for ratio in ratios)
    total = a * first + b * second - first * p.zero_point - second * q.zero_point + (1 << (shift - 1))
    return np.clip((total >> shift) + to.zero_point, -128, 127)
