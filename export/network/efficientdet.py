"""EfficientDet in PyTorch, as it was trained: backbone, BiFPN, two heads.

Module names follow effdet's ``tf_efficientdet_*``, so that its state dicts load as they are.
Sources: arXiv 1911.09070 sections 3 and 4; google/automl efficientdet/efficientdet_arch.py.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgedet.export.network.backbone import BN_MOMENTUM, Backbone, PaddedConv2d, activation, compute_pads
from edgedet.specs import DetectorSpec

BN_EPS = 1e-3
FUSION_EPS = 1e-4  # arXiv 1911.09070 section 3.3
POOL_KERNEL = 3


def bifpn_norm(channels: int) -> nn.BatchNorm2d:
    """Return the norm that BiFPN and heads use."""
    return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


class SeparableConv(nn.Module):
    """Depthwise 3x3, then pointwise with bias; ``with_norm`` adds the BatchNorm of BiFPN nodes."""

    def __init__(self, channels: int, channels_out: int, padding: str, with_norm: bool) -> None:
        """``padding`` as in DetectorSpec."""
        super().__init__()
        self.conv_dw = PaddedConv2d(channels, channels, 3, groups=channels, padding=padding)
        self.conv_pw = PaddedConv2d(channels, channels_out, 1, bias=True)
        self.bn = bifpn_norm(channels_out) if with_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, channels_out, H, W)."""
        x = self.conv_pw(self.conv_dw(x))
        return x if self.bn is None else self.bn(x)


class Lateral(nn.Module):
    """1x1 convolution and BatchNorm that bring a backbone feature to the BiFPN's width."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        """No activation follows."""
        super().__init__()
        self.conv = PaddedConv2d(channels_in, channels_out, 1, bias=True)
        self.bn = bifpn_norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) -> (N, channels_out, H, W)."""
        return self.bn(self.conv(x))


class Resample(nn.Module):
    """Bring a feature to the BiFPN's width where it has another, then to the node's size."""

    def __init__(self, channels_in: int, spec: DetectorSpec) -> None:
        """``channels_in``: of the feature."""
        super().__init__()
        channels = spec.bifpn_channels
        self.conv = Lateral(channels_in, channels) if channels_in != channels else None
        self.padding = spec.padding
        self.pool_padding = spec.pool_padding
        self.pool_first = spec.pool_first

    def forward(self, x: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """(N, channels_in, H, W) -> (N, channels_out, *size_hw): max-pool down, nearest up."""
        if self.conv is None:
            return resized_to(x, size_hw, self.padding, self.pool_padding)
        if self.pools_first(x.shape[2], size_hw[0]):
            return self.conv(resized_to(x, size_hw, self.padding, self.pool_padding))
        return resized_to(self.conv(x), size_hw, self.padding, self.pool_padding)

    def pools_first(self, height: int, target_height: int) -> bool:
        """Whether the feature is made smaller before its width changes."""
        return self.pool_first and height > target_height


def resized_to(x: Tensor, size_hw: tuple[int, int], padding: str, pool_padding: str) -> Tensor:
    """Max-pool (3x3, stride 2) where an axis shrinks, nearest where it grows; unchanged axes stay."""
    h, w = x.shape[2:]
    if h < size_hw[0] or w < size_hw[1]:
        return F.interpolate(x, size_hw, mode="nearest")
    if (h, w) == size_hw:
        return x
    kernels, strides = pool_shape((h, w), size_hw)
    (top, bottom), (left, right) = (
        compute_pads(s, k, t, padding) for s, k, t in zip((h, w), kernels, strides, strict=True)
    )
    border = 0.0 if pool_padding == "zeros" else -torch.inf
    return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=border), kernels, strides)


def pool_shape(from_hw: tuple[int, int], to_hw: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (kernel, stride) per axis: 3 and 2 where it halves, 1 and 1 where it stays (levels of one cell)."""
    halves = [a > b for a, b in zip(from_hw, to_hw, strict=True)]
    return tuple(POOL_KERNEL if h else 1 for h in halves), tuple(2 if h else 1 for h in halves)  # type: ignore[return-value]


def node_table(num_levels: int) -> list[tuple[int, tuple[int, ...]]]:
    """Return a cell's nodes as (level, inputs); inputs number the cell's inputs first, then its nodes.

    Top-down from the second-coarsest level, then bottom-up; arXiv 1911.09070 figure 2d.
    """
    ids = [[level] for level in range(num_levels)]
    nodes: list[tuple[int, tuple[int, ...]]] = []
    for level in reversed(range(num_levels - 1)):
        nodes.append((level, (ids[level][-1], ids[level + 1][-1])))
        ids[level].append(num_levels + len(nodes) - 1)
    for level in range(1, num_levels):
        nodes.append((level, (*ids[level], ids[level - 1][-1])))
        ids[level].append(num_levels + len(nodes) - 1)
    return nodes


class Combine(nn.Module):
    """Weighted sum of a node's resampled inputs."""

    def __init__(self, channels_in: dict[int, int], spec: DetectorSpec) -> None:
        """``channels_in``: input number -> channels."""
        super().__init__()
        self.resample = nn.ModuleDict({str(key): Resample(channels, spec) for key, channels in channels_in.items()})
        self.edge_weights = None if spec.fusion == "sum" else nn.Parameter(torch.ones(len(channels_in)))
        self.softmax = spec.fusion == "attn"

    @property
    def edges(self) -> dict[int, Resample]:
        """Input number -> how it is resampled."""
        return {int(key): cast(Resample, op) for key, op in self.resample.items()}

    def weights(self) -> Tensor:
        """Normalised weight of each input, (n,): relu(w) / (sum relu(w) + 1e-4), softmax(w) or ones."""
        if self.edge_weights is None:
            return torch.ones(len(self.resample))
        if self.softmax:
            return torch.softmax(self.edge_weights, 0)
        positive = F.relu(self.edge_weights)
        return positive / (positive.sum() + FUSION_EPS)

    def forward(self, inputs: list[Tensor], size_hw: tuple[int, int]) -> Tensor:
        """Return (N, channels, *size_hw)."""
        weights = self.weights()
        parts = [op(inputs[key], size_hw) * weights[i] for i, (key, op) in enumerate(self.edges.items())]
        return torch.stack(parts).sum(0)


class Node(nn.Module):
    """One BiFPN node: weighted sum, activation, separable convolution, norm."""

    def __init__(self, level: int, channels_in: dict[int, int], spec: DetectorSpec) -> None:
        """``level``: index into the pyramid, 0 is P3."""
        super().__init__()
        self.level = level
        self.combine = Combine(channels_in, spec)
        conv = SeparableConv(spec.bifpn_channels, spec.bifpn_channels, spec.padding, with_norm=True)
        self.after_combine = nn.Sequential(OrderedDict(act=activation(spec.activation), conv=conv))

    @property
    def conv(self) -> SeparableConv:
        """The node's convolution."""
        return cast(SeparableConv, self.after_combine.conv)

    def forward(self, inputs: list[Tensor], size_hw: tuple[int, int]) -> Tensor:
        """Return (N, channels, *size_hw)."""
        return self.after_combine(self.combine(inputs, size_hw))


class Cell(nn.Module):
    """One top-down and bottom-up pass."""

    def __init__(self, channels_in: tuple[int, ...], spec: DetectorSpec) -> None:
        """``channels_in``: of the pyramid's levels."""
        super().__init__()
        table = node_table(spec.num_levels)
        channels = (*channels_in, *(spec.bifpn_channels for _ in table))
        self.fnode = nn.ModuleList(Node(level, {i: channels[i] for i in inputs}, spec) for level, inputs in table)

    @property
    def nodes(self) -> list[Node]:
        """The cell's nodes in the order in which they run."""
        return [cast(Node, node) for node in self.fnode]

    def forward(self, levels: list[Tensor], sizes_hw: tuple[tuple[int, int], ...]) -> list[Tensor]:
        """Levels in, levels out, finest first."""
        features = list(levels)
        for node in self.nodes:
            features.append(node(features, sizes_hw[node.level]))
        return features[-len(levels) :]


class BiFpn(nn.Module):
    """Coarse levels from P5, then the cells."""

    def __init__(self, feature_channels: tuple[int, ...], spec: DetectorSpec) -> None:
        """``feature_channels``: of P3, P4, P5."""
        super().__init__()
        channels = list(feature_channels)
        self.resample = nn.ModuleDict()
        for level in range(len(feature_channels), spec.num_levels):
            self.resample[str(level)] = Resample(channels[-1], spec)
            channels.append(spec.bifpn_channels)
        wide = (spec.bifpn_channels,) * spec.num_levels
        self.cell = nn.ModuleList(Cell(wide if i else tuple(channels), spec) for i in range(spec.bifpn_repeats))

    @property
    def cells(self) -> list[Cell]:
        """The cells in the order in which they run."""
        return [cast(Cell, cell) for cell in self.cell]

    @property
    def coarse_levels(self) -> dict[int, Resample]:
        """Level index -> how it is made from the level before."""
        return {int(key): cast(Resample, op) for key, op in self.resample.items()}

    def forward(self, features: list[Tensor], sizes_hw: tuple[tuple[int, int], ...]) -> list[Tensor]:
        """P3, P4, P5 -> all levels, finest first."""
        levels = list(features)
        for level, op in self.coarse_levels.items():
            levels.append(op(levels[-1], sizes_hw[level]))
        for cell in self.cells:
            levels = cell(levels, sizes_hw)
        return levels


class Head(nn.Module):
    """Convolutions shared by all levels, a BatchNorm of its own per level, then the prediction."""

    def __init__(self, outputs: int, spec: DetectorSpec) -> None:
        """``outputs`` per anchor: classes or 4."""
        super().__init__()
        channels = spec.bifpn_channels
        self.conv_rep = nn.ModuleList(
            SeparableConv(channels, channels, spec.padding, with_norm=False) for _ in range(spec.head_repeats)
        )
        self.bn_rep = nn.ModuleList(
            nn.ModuleList(nn.Sequential(OrderedDict(bn=bifpn_norm(channels))) for _ in range(spec.num_levels))
            for _ in range(spec.head_repeats)
        )
        self.act = activation(spec.activation)
        self.predict = SeparableConv(channels, outputs * spec.anchors_per_cell, spec.padding, with_norm=False)

    def layers(self, level: int) -> list[tuple[SeparableConv, nn.BatchNorm2d | None]]:
        """Return the convolutions and norms of one level in their order; the prediction, without a norm, last."""
        repeats = zip(self.conv_rep, cast("list[nn.ModuleList]", self.bn_rep), strict=True)
        layers = [(cast(SeparableConv, conv), cast(nn.BatchNorm2d, norms[level].bn)) for conv, norms in repeats]
        return [*layers, (self.predict, None)]

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Levels -> (N, outputs * anchors, H, W) each."""
        predictions = []
        for index, x in enumerate(levels):
            for conv, norm in self.layers(index):
                x = conv(x) if norm is None else self.act(norm(conv(x)))
            predictions.append(x)
        return predictions


def flat_outputs(levels: list[Tensor], outputs: int) -> Tensor:
    """Concatenate (N, anchors * outputs, H, W) levels to (N, A, outputs), anchors of a cell innermost."""
    return torch.cat([x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, outputs) for x in levels], 1)


class EfficientDet(nn.Module):
    """The detector that a checkpoint was trained as."""

    def __init__(self, spec: DetectorSpec) -> None:
        """Weights are random until a state dict is loaded."""
        super().__init__()
        self.spec = spec
        self.backbone = Backbone(spec.backbone, spec.activation, spec.backbone_padding, spec.backbone_bn_eps)
        self.fpn = BiFpn(self.backbone.feature_channels, spec)
        self.class_net = Head(spec.num_classes, spec)
        self.box_net = Head(4, spec)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) normalised RGB of the spec's size -> class logits (N, A, C), box codes (N, A, 4)."""
        levels = self.fpn(self.backbone(x), self.spec.level_sizes())
        return flat_outputs(self.class_net(levels), self.spec.num_classes), flat_outputs(self.box_net(levels), 4)
