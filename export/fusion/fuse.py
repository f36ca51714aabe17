"""Write the network as a fused float ONNX graph. Each of these rules is exact up to float rounding:

- BatchNorm into the convolution before it (computed in float64), conv biases included.
- 1/std and the BGR order into the stem; the mean is subtracted before the stem's padding, so borders stay exact.
- SAME padding into the attributes of convolutions and pools.
- Fusion weights normalised to constants. A weight goes into the lateral convolution where there is one; else a node's
  output is scaled by the weight of its costliest edge, the other edges multiply by the ratio, and the heads' first
  depthwise convolution divides by it. An edge of weight 0 is dropped. (docs/decisions/0003-fusion-weights.md)
- A linear 1 x 1 convolution into those that read it, where that costs less (compose.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from onnx import ModelProto, TensorProto
from torch import nn

from edgedet.artifact import META_KEY, ArtifactMeta
from edgedet.export.fusion.compose import compose_pointwise
from edgedet.export.fusion.graph_builder import GraphBuilder, Value
from edgedet.export.network.backbone import FEATURE_STAGES, Backbone, MBConv, PaddedConv2d, compute_pads
from edgedet.export.network.efficientdet import BiFpn, EfficientDet, Head, Lateral, Node, Resample, pool_shape

# A node's output is not scaled by a weight smaller than this: the other edges' ratios would leave the range in which
# an INT8 addition can align its inputs (XNNPACK wants scale ratios in [2^-10, 2^8)).
SMALLEST_FOLDED_WEIGHT = 2.0**-6


@dataclass(frozen=True)
class Weights:
    """A convolution's weight (O, I, k, k) and bias (O,), float64."""

    weight: np.ndarray
    bias: np.ndarray | None

    def times(self, factor: float) -> Weights:
        """Scale the convolution's output."""
        return Weights(self.weight * factor, None if self.bias is None else self.bias * factor)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> Weights:
    """Fold a BatchNorm (running statistics) into the convolution before it."""
    weight = _array(conv.weight)
    bias = None if conv.bias is None else _array(conv.bias)
    if norm is None:
        return Weights(weight, bias)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    gain = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
    shift = _array(norm.bias) - _array(norm.running_mean) * gain
    return Weights(weight * gain[:, None, None, None], shift if bias is None else shift + bias * gain)


def _conv(g: GraphBuilder, x: Value, conv: nn.Conv2d, w: Weights, name: str, weight_name: str | None = None) -> Value:
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    rule = conv.pad_rule if isinstance(conv, PaddedConv2d) else "same"
    (top, bottom), (left, right) = (compute_pads(size, kernel, stride, rule) for size in x.size_hw)
    return g.conv(
        x,
        w.weight,
        w.bias,
        name,
        stride=stride,
        pads=(top, left, bottom, right),
        groups=conv.groups,
        weight_name=weight_name,
    )


def _block(g: GraphBuilder, x: Value, block: MBConv, act: str, name: str) -> Value:
    y = x
    if block.expands:
        y = g.activation(_conv(g, y, block.conv_pw, fold_norm(block.conv_pw, block.bn1), f"{name}.conv_pw"), act)
    y = _conv(g, y, block.conv_dw, fold_norm(block.conv_dw, block.depthwise_norm), f"{name}.conv_dw")
    y = g.activation(y, act)
    if block.se is not None:
        pooled = g.mean(y, f"{name}.se.mean")
        reduced = _conv(g, pooled, block.se.conv_reduce, fold_norm(block.se.conv_reduce), f"{name}.se.conv_reduce")
        reduced = g.activation(reduced, "swish")
        gate = _conv(g, reduced, block.se.conv_expand, fold_norm(block.se.conv_expand), f"{name}.se.conv_expand")
        gate = g.op("Sigmoid", [gate.name], gate.shape, f"{name}.se.gate")
        y = g.op("Mul", [y.name, gate.name], y.shape, f"{name}.se")
    conv, norm = block.projection
    y = _conv(g, y, conv, fold_norm(conv, norm), f"{name}.{'conv_pwl' if block.expands else 'conv_pw'}")
    return g.op("Add", [x.name, y.name], y.shape, name) if block.has_skip else y


def _backbone(g: GraphBuilder, x: Value, backbone: Backbone, act: str, std_rgb: tuple[float, ...]) -> list[Value]:
    stem = fold_norm(backbone.conv_stem, backbone.bn1)
    per_byte = 1.0 / (255.0 * np.asarray(std_rgb))  # the graph subtracts the mean in bytes; the rest is linear
    stem = Weights((stem.weight * per_byte[None, :, None, None])[:, ::-1], stem.bias)  # RGB -> BGR
    x = g.activation(_conv(g, x, backbone.conv_stem, stem, "backbone.conv_stem"), act)
    features = []
    for index, stage in enumerate(backbone.stages):
        for number, block in enumerate(stage):
            x = _block(g, x, block, act, f"backbone.blocks.{index}.{number}")
        if index in FEATURE_STAGES:
            features.append(x)
    return features


def _lateral(g: GraphBuilder, x: Value, lateral: Lateral, factor: float, name: str) -> Value:
    return _conv(g, x, lateral.conv, fold_norm(lateral.conv, lateral.bn).times(factor), name)


def _resized(g: GraphBuilder, x: Value, op: Resample, size_hw: tuple[int, int], name: str) -> Value:
    if x.size_hw == size_hw:
        return x
    if x.size_hw < size_hw:
        return g.nearest(x, size_hw, f"{name}.upsample")
    kernel, stride = pool_shape(x.size_hw, size_hw)
    (top, bottom), (left, right) = (
        compute_pads(s, k, t, op.padding) for s, k, t in zip(x.size_hw, kernel, stride, strict=True)
    )
    pads = (top, left, bottom, right)
    if op.pool_padding == "zeros":
        x, pads = g.zero_padded(x, pads, f"{name}.pad"), (0, 0, 0, 0)
    return g.max_pool(x, kernel, stride, pads, f"{name}.downsample")


def _edge(g: GraphBuilder, x: Value, op: Resample, factor: float, size_hw: tuple[int, int], name: str) -> Value:
    """Append one edge of the BiFPN: its lateral convolution, its weight ``factor`` and its change of size.

    The weight goes into the convolution, which costs nothing; without one, the smaller tensor is multiplied by it.
    """
    if op.conv is not None:
        if op.pools_first(x.size_hw[0], size_hw[0]):
            return _lateral(g, _resized(g, x, op, size_hw, name), op.conv, factor, f"{name}.conv")
        return _resized(g, _lateral(g, x, op.conv, factor, f"{name}.conv"), op, size_hw, name)
    if x.size_hw > size_hw:  # weights are not negative, so they pass through the max-pool
        return g.scaled(_resized(g, x, op, size_hw, name), factor, f"{name}.weighted")
    return _resized(g, g.scaled(x, factor, f"{name}.weighted"), op, size_hw, name)


def compute_edge_weights(node: Node) -> dict[int, float]:
    """Return input number -> normalised weight, without edges of weight 0 (one is kept where all are)."""
    weights = dict(zip(node.combine.edges, node.combine.weights().double().tolist(), strict=True))
    return {key: w for key, w in weights.items() if w > 0} or dict([next(iter(weights.items()))])


def compute_node_scales(fpn: BiFpn, sizes_hw: tuple[tuple[int, int], ...]) -> list[list[float]]:
    """Return the factor by which the output of each node is scaled, cell by cell.

    It is the weight of the costliest edge that reads the node: that edge then needs no multiplication of its own.
    """
    levels = len(sizes_hw)
    # of each node, the edges that it feeds: (cost, weight)
    options: list[list[list[tuple[int, float]]]] = [[[] for _ in cell.nodes] for cell in fpn.cells]
    for number, cell in enumerate(fpn.cells):
        for node in cell.nodes:
            for key, weight in compute_edge_weights(node).items():
                if key >= levels:
                    producer = (number, key - levels)
                elif number:  # a cell's inputs are the last nodes of the cell before
                    producer = (number - 1, len(cell.nodes) - levels + key)
                else:
                    continue
                source = fpn.cells[producer[0]].nodes[producer[1]]
                cost = min(math.prod(sizes_hw[level]) for level in (source.level, node.level))
                options[producer[0]][producer[1]].append((cost, weight))
    return [[_folded_weight(edges) for edges in cell] for cell in options]


def _folded_weight(options: list[tuple[int, float]]) -> float:
    usable = [option for option in options if option[1] >= SMALLEST_FOLDED_WEIGHT]
    return max(usable)[1] if usable else 1.0


def _bifpn(
    g: GraphBuilder, features: list[Value], fpn: BiFpn, sizes_hw: tuple[tuple[int, int], ...], act: str
) -> tuple[list[Value], list[float]]:
    """Append the BiFPN; return its levels, and the factor by which each is too large for the heads to divide by."""
    levels = list(features)
    for level, op in fpn.coarse_levels.items():
        levels.append(_edge(g, levels[-1], op, 1.0, sizes_hw[level], f"fpn.resample.{level}"))
    level_scales = [1.0] * len(levels)
    for number, (cell, scales) in enumerate(zip(fpn.cells, compute_node_scales(fpn, sizes_hw), strict=True)):
        values, value_scales = list(levels), list(level_scales)
        for index, (node, scale) in enumerate(zip(cell.nodes, scales, strict=True)):
            name = f"fpn.cell.{number}.fnode.{index}"
            parts = []
            for key, weight in compute_edge_weights(node).items():
                op = node.combine.edges[key]
                edge_name = f"{name}.combine.resample.{key}"
                factor = weight / value_scales[key]
                parts.append(_edge(g, values[key], op, factor, sizes_hw[node.level], edge_name))
            total = parts[0]
            for count, part in enumerate(parts[1:]):
                total = g.op(
                    "Add", [total.name, part.name], part.shape, f"{name}.combine{'.partial' * (len(parts) - 2 - count)}"
                )
            conv = node.conv
            y = _conv(g, g.activation(total, act), conv.conv_dw, fold_norm(conv.conv_dw), f"{name}.conv_dw")
            y = _conv(g, y, conv.conv_pw, fold_norm(conv.conv_pw, conv.bn).times(scale), f"{name}.conv_pw")
            values.append(y)
            value_scales.append(scale)
        levels, level_scales = values[-len(levels) :], value_scales[-len(levels) :]
    return levels, level_scales


def _head(
    g: GraphBuilder,
    levels: list[Value],
    level_scales: list[float],
    head: Head,
    outputs: int,
    act: str,
    name: str,
    output_name: str,
) -> Value:
    flat = []
    for level, (x, scale) in enumerate(zip(levels, level_scales, strict=True)):
        for index, (conv, norm) in enumerate(head.layers(level)):
            part = f"{name}.predict" if norm is None else f"{name}.conv_rep.{index}"
            depthwise = fold_norm(conv.conv_dw)
            weight_name = (
                f"{part}.conv_dw.weight"  # one constant for all levels, but for the first if levels are scaled
            )
            if index == 0 and scale != 1.0:
                depthwise, weight_name = depthwise.times(1.0 / scale), f"{part}.conv_dw.{level}.weight"
            x = _conv(g, x, conv.conv_dw, depthwise, f"{part}.conv_dw.{level}", weight_name)
            x = _conv(g, x, conv.conv_pw, fold_norm(conv.conv_pw, norm), f"{part}.conv_pw.{level}")
            if norm is not None:
                x = g.activation(x, act)
        n, channels, h, w = x.shape
        shape = g.constant(f"{name}.flat.{channels}.shape", np.array([n, channels, -1], np.int64))
        flat.append(g.op("Reshape", [x.name, shape], (n, channels, h * w), f"{name}.flat.{level}"))
    cells = sum(value.shape[2] for value in flat)
    n, channels = flat[0].shape[:2]
    y = g.op("Concat", [value.name for value in flat], (n, channels, cells), f"{name}.levels", axis=2)
    y = g.op("Transpose", [y.name], (n, cells, channels), f"{name}.cells_first", perm=[0, 2, 1])
    shape = g.constant(f"{output_name}.shape", np.array([n, -1, outputs], np.int64))
    return g.op("Reshape", [y.name, shape], (n, cells * channels // outputs, outputs), output_name)


def graph_from_network(network: EfficientDet, meta: ArtifactMeta) -> ModelProto:
    """Return the fused float32 ONNX model of ``network`` with ``meta`` inside.

    Input ``pixels`` uint8 (1, H, W, 3) BGR; outputs ``class_logits`` (1, A, C) and ``box_codes`` (1, A, 4), float32.
    """
    spec, act = network.spec, network.spec.activation
    h, w = spec.input_hw
    g = GraphBuilder()
    pixels = Value("pixels", (1, h, w, 3))
    x = g.op("Cast", [pixels.name], pixels.shape, "pixels.float", to=TensorProto.FLOAT)
    # A whole row of means: onnxruntime 1.32 subtracts three values at a time otherwise, 5 ms more of D0's 72 on a core.
    mean_bgr = np.tile(255.0 * np.asarray(spec.mean_rgb[::-1], np.float64), (w, 1))
    x = g.op("Sub", [x.name, g.constant("mean_bgr", mean_bgr.astype(np.float32))], x.shape, "pixels.centred")
    x = g.op("Transpose", [x.name], (1, 3, h, w), "pixels.nchw", perm=[0, 3, 1, 2])
    with torch.no_grad():
        features = _backbone(g, x, network.backbone, act, spec.std_rgb)
        levels, scales = _bifpn(g, features, network.fpn, spec.level_sizes(), act)
        heads = [
            _head(g, levels, scales, head, outputs, act, name, output)
            for head, outputs, name, output in (
                (network.class_net, spec.num_classes, "class_net", "class_logits"),
                (network.box_net, 4, "box_net", "box_codes"),
            )
        ]
    compose_pointwise(g)
    return g.model([(pixels, TensorProto.UINT8)], heads, {META_KEY: meta.to_json()})
