"""Weights of all zeros under the names and in the shapes of a model: what a file is taken for depends on no value."""

from __future__ import annotations

from functools import cache

import torch

from edgedet.export.network.efficientdet import EfficientDet
from edgedet.specs import SPECS

STEM = "backbone.conv_stem.weight"


@cache
def weights_of(name: str) -> dict[str, torch.Tensor]:
    """Weights for 90 classes in the canonical layout, all 0: one number a tensor is stored, whatever its shape."""
    with torch.device("meta"):
        state = EfficientDet(SPECS[name]).state_dict()
    return {name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in state.items()}


def d0() -> dict[str, torch.Tensor]:
    return dict(weights_of("tf_efficientdet_d0"))
