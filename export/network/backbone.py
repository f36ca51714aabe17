"""EfficientNet and EfficientNet-Lite feature extractors in PyTorch.

Module names follow timm's ``tf_efficientnet_*``, so that effdet's state dicts load as they are.
Source of the stage table: arXiv 1905.11946 table 1; scaling as in timm/models/_efficientnet_builder.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BN_MOMENTUM = 0.01  # 1 - TensorFlow's 0.99

# repeats, kernel, stride, expansion, channels, before scaling
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
FEATURE_STAGES = (2, 4, 6)  # their outputs are P3, P4, P5
STEM_CHANNELS = 32
SE_RATIO = 0.25  # of the block's input channels

# name -> (width, depth) multipliers; hparams of google/automl efficientnet_builder.py
SCALING = {
    "b0": (1.0, 1.0),
    "b1": (1.0, 1.1),
    "b2": (1.1, 1.2),
    "b3": (1.2, 1.4),
    "b4": (1.4, 1.8),
    "b5": (1.6, 2.2),
    "b6": (1.8, 2.6),
    "b7": (2.0, 3.1),
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
    "lite3": (1.2, 1.4),
    "lite4": (1.4, 1.8),
}


@dataclass(frozen=True)
class BlockShape:
    """One MBConv block: channels in, expanded and out, kernel, stride, squeeze-excite width (0: none)."""

    channels_in: int
    channels_mid: int
    channels_out: int
    kernel: int
    stride: int
    se_channels: int


def scale_channels(channels: int, width: float) -> int:
    """Round ``channels * width`` to a multiple of 8, never below 90 % of it (EfficientNet's round_filters)."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def list_stage_shapes(name: str) -> tuple[int, list[list[BlockShape]]]:
    """Return (stem channels, blocks per stage) of "b0".."b7" or "lite0".."lite4"."""
    width, depth = SCALING[name]
    lite = name.startswith("lite")
    stem = STEM_CHANNELS if lite else scale_channels(STEM_CHANNELS, width)  # Lite keeps the stem
    channels_in, stages = stem, []
    for index, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
        keeps_depth = lite and index in (0, len(STAGES) - 1)  # Lite does not repeat its first and last stage
        channels_out, blocks = scale_channels(channels, width), []
        for repeat in range(repeats if keeps_depth else math.ceil(repeats * depth)):
            se = 0 if lite else round(channels_in * SE_RATIO)
            step = stride if repeat == 0 else 1
            blocks.append(BlockShape(channels_in, channels_in * expansion, channels_out, kernel, step, se))
            channels_in = channels_out
        stages.append(blocks)
    return stem, stages


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding of one axis: (before, after), the odd pixel after."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def compute_pads(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """Return the padding (before, after) of one axis for a spec's ``padding``: "same" or "symmetric"."""
    if padding == "same":
        return same_pads(size, kernel, stride)
    return (kernel - 1) // 2, (kernel - 1) // 2


class PaddedConv2d(nn.Conv2d):
    """Convolution that pads as the spec says for whatever size comes in."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        padding: str = "same",
    ) -> None:
        """``padding``: "same" (TensorFlow's) or "symmetric"."""
        super().__init__(channels_in, channels_out, kernel, stride, groups=groups, bias=bias)
        self.pad_rule = padding

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) -> (N, channels_out, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        top, bottom = compute_pads(x.shape[2], kernel, stride, self.pad_rule)
        left, right = compute_pads(x.shape[3], kernel, stride, self.pad_rule)
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), self.weight, self.bias, self.stride, groups=self.groups)


def activation(name: str) -> nn.Module:
    """Return the spec's activation: "swish" or "relu6"."""
    return nn.SiLU() if name == "swish" else nn.ReLU6()


class SqueezeExcite(nn.Module):
    """Scale channels by a gate computed from their means (arXiv 1709.01507)."""

    def __init__(self, channels: int, reduced: int) -> None:
        """``reduced``: width of the bottleneck."""
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, reduced, 1)
        self.conv_expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> same shape."""
        gate = F.silu(self.conv_reduce(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.conv_expand(gate))


class MBConv(nn.Module):
    """Inverted residual block. Names as timm's: InvertedResidual, or DepthwiseSeparable where nothing expands."""

    def __init__(self, shape: BlockShape, act: str, padding: str, eps: float) -> None:
        """``act``, ``padding`` and ``eps`` as in DetectorSpec."""
        super().__init__()
        self.shape = shape
        self.expands = shape.channels_mid != shape.channels_in
        self.has_skip = shape.stride == 1 and shape.channels_in == shape.channels_out

        def norm(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, eps=eps, momentum=BN_MOMENTUM)

        mid = shape.channels_mid
        if self.expands:
            self.conv_pw: nn.Conv2d = PaddedConv2d(shape.channels_in, mid, 1)
            self.bn1 = norm(mid)
        depthwise, norms = ("bn2", "bn3") if self.expands else ("bn1", "bn2")
        self.conv_dw = PaddedConv2d(mid, mid, shape.kernel, shape.stride, groups=mid, padding=padding)
        setattr(self, depthwise, norm(mid))
        self.se = SqueezeExcite(mid, shape.se_channels) if shape.se_channels else None
        setattr(self, "conv_pwl" if self.expands else "conv_pw", PaddedConv2d(mid, shape.channels_out, 1))
        setattr(self, norms, norm(shape.channels_out))
        self.act = activation(act)

    @property
    def depthwise_norm(self) -> nn.BatchNorm2d:
        """The norm behind the depthwise convolution."""
        return cast(nn.BatchNorm2d, self.bn2 if self.expands else self.bn1)

    @property
    def projection(self) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        """The last pointwise convolution and its norm; no activation follows."""
        pair = (self.conv_pwl, self.bn3) if self.expands else (self.conv_pw, self.bn2)
        return cast("tuple[nn.Conv2d, nn.BatchNorm2d]", pair)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) -> (N, channels_out, H / stride, W / stride)."""
        y = self.act(self.bn1(self.conv_pw(x))) if self.expands else x
        y = self.act(self.depthwise_norm(self.conv_dw(y)))
        if self.se is not None:
            y = self.se(y)
        conv, norm = self.projection
        y = norm(conv(y))
        return x + y if self.has_skip else y


class Backbone(nn.Module):
    """EfficientNet without its classifier."""

    def __init__(self, name: str, act: str, padding: str, eps: float) -> None:
        """``name``: a key of SCALING."""
        super().__init__()
        stem, stages = list_stage_shapes(name)
        self.conv_stem = PaddedConv2d(3, stem, 3, 2, padding=padding)
        self.bn1 = nn.BatchNorm2d(stem, eps=eps, momentum=BN_MOMENTUM)
        self.act = activation(act)
        self.blocks = nn.ModuleList(
            nn.ModuleList(MBConv(shape, act, padding, eps) for shape in shapes) for shapes in stages
        )
        self.feature_channels = tuple(stages[index][-1].channels_out for index in FEATURE_STAGES)

    @property
    def stages(self) -> list[list[MBConv]]:
        """Blocks per stage."""
        return [[cast(MBConv, block) for block in cast(nn.ModuleList, stage)] for stage in self.blocks]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) normalised RGB -> P3, P4, P5."""
        x = self.act(self.bn1(self.conv_stem(x)))
        features = []
        for index, stage in enumerate(self.stages):
            for block in stage:
                x = block(x)
            if index in FEATURE_STAGES:
                features.append(x)
        return features
