"""Optimiser, learning rate and averaged weights, all PyTorch's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

# The rate for a batch of BATCH pictures; other batches are in proportion.
RATES = {"adamw": 5e-4, "sgd": 8e-3}  # sgd: google/automl's 0.08 for a batch of 64, with momentum 0.9
BATCH = 8
WEIGHT_DECAY = {"adamw": 1e-2, "sgd": 4e-5}  # sgd: google/automl's
WARMUP_SHARE, WARMUP_MOST = 0.05, 500  # of all steps; steps
LAST_SHARE = 0.01  # of the rate, at the end
EMA_DECAY = 0.9998  # google/automl's moving_average_decay


def make_optimiser(network: nn.Module, name: str, rate: float) -> torch.optim.Optimizer:
    """Return AdamW or SGD over the parameters that are trained; norms, biases and fusion weights do not decay."""
    kernels = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": WEIGHT_DECAY[name]}, {"params": others, "weight_decay": 0.0}]
    if name == "sgd":
        return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, rate)


def make_schedule(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a rise from 0 and then a cosine down to LAST_SHARE of the rate over ``steps`` steps."""
    return torch.optim.lr_scheduler.LambdaLR(optimiser, make_rate_schedule(steps))


def make_rate_schedule(steps: int) -> Callable[[int], float]:
    """Return the share of the full rate by step."""
    warmup = max(1, min(WARMUP_MOST, round(WARMUP_SHARE * steps)))

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return LAST_SHARE + (1 - LAST_SHARE) * 0.5 * (1 + math.cos(math.pi * done))

    return share


def average_weights(network: nn.Module) -> AveragedModel:
    """Return the moving average of a network's weights and of its BatchNorm statistics.

    It begins with a short memory, as TensorFlow's ``num_updates``: few steps would else keep the first weights.
    """

    def average(averages: Any, currents: Any, updates: Tensor | int) -> None:
        decay = min(EMA_DECAY, (1.0 + float(updates)) / (10.0 + float(updates)))
        for mean, now in zip(averages, currents, strict=True):
            if mean.is_floating_point():
                mean.lerp_(now.to(mean.dtype), 1.0 - decay)
            else:
                mean.copy_(now)

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)
