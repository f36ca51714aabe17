"""Choose a range for every tensor from what was observed of it on the calibration frames.

For each part of the network the observer was chosen by the error at the outputs (docs/int8.md):
- backbone: the range of least squared error on a sample (the MSE observer of Nagel et al., arXiv 2106.08295 section
  3.1). A few channels reach far beyond the others; a range that covers them leaves coarse steps for the others.
- BiFPN and heads: least squared error at the cells that detections come from (``places``). An error over the whole
  picture would be that of the background, and would clip the objects; a range up to the observed extremes would spend
  steps on values that no detection uses. Where the frames show too few detections on a pyramid level: the extremes in
  BiFPN and class head, least squared error everywhere in the box head.
- the input of a swish: the error is measured behind the swish, which flattens everything below about -6.
- class logits: from logit(0.01) on, because detections are scored from 0.01; the steps are finer for the rest.
- sigmoids need no range: their scale is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import torch
from torch import Tensor

from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.graph.places import PREDICTION
from edgedet.calibration.placement.plan import INT8_MAX, INT8_MIN, QuantParams, params_from_magnitude, params_from_range
from edgedet.calibration.placement.table import CalibrationTable
from edgedet.calibration.ranges.observe import ObservedTensor

LOWEST_LOGIT = math.log(0.01 / 0.99)  # detections are scored from 0.01 on
GRID = 16  # number of ends of a range that are tried, each a fraction of the observed end
SMALLEST_FRACTION = 0.1
ROUNDS = 2  # of coordinate descent over the two ends
OBSERVERS = ("mixed", "mse", "minmax", "percentile")
LEAST_ERROR = ("backbone.", "box_net.")


def table_from_observed(
    executor: Executor,
    observed: dict[str, ObservedTensor],
    hashes: list[str],
    model_sha256: str,
    observer: str = "mixed",
) -> CalibrationTable:
    """Choose a range for each tensor.

    observer: "mixed" (the module's docstring says how), "mse", "minmax" or "percentile" (99.99 %).
    """
    swished = {node.input[0] for node in executor.nodes if node.op_type == "Sigmoid" and not _is_squeeze_gate(node)}
    ranges, magnitudes = {}, {}
    for name, item in observed.items():
        low, high = item.low, item.high
        magnitude = max(-low, high)
        if name.startswith(PREDICTION):
            low, high = max(low, LOWEST_LOGIT), max(high, LOWEST_LOGIT)
        elif observer == "percentile":
            low, high = (float(v) for v in np.quantile(item.sample().numpy(), [1e-4, 1 - 1e-4]))
            magnitude = max(-low, high)
        elif (sample := _choose_sample(name, item, observer)) is not None:
            low, high = _find_best_range(sample, torch.nn.functional.silu if name in swished else _identity)
            magnitude = _find_best_magnitude(sample)
        ranges[name], magnitudes[name] = (low, high), magnitude
    extremes = {name: (item.low, item.high) for name, item in observed.items()}
    return CalibrationTable(ranges, magnitudes, extremes, tuple(hashes), model_sha256)


def _choose_sample(name: str, item: ObservedTensor, observer: str) -> Tensor | None:
    """Return the values on which the range shall have the least squared error; None where it covers the extremes."""
    if observer == "mixed" and (sample := item.sample_at_places()) is not None:
        return sample
    return item.sample() if observer == "mse" or (observer == "mixed" and name.startswith(LEAST_ERROR)) else None


def _is_squeeze_gate(node: onnx.NodeProto) -> bool:
    return node.output[0].endswith(".gate")


def _identity(x: Tensor) -> Tensor:
    return x


def fake_quantise(x: Tensor, q: QuantParams) -> Tensor:
    """Round to the integers of ``q`` and back: quantise and dequantise at once, in float."""
    return torch.fake_quantize_per_tensor_affine(x, q.scale, q.zero_point, INT8_MIN, INT8_MAX)


def _find_best_range(x: Tensor, activation: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Return the range of least squared error behind the activation, by coordinate descent over its two ends."""
    expected = activation(x)
    fractions = np.geomspace(SMALLEST_FRACTION, 1.0, GRID)
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)

    @cache  # the second round asks for the same again, and so do ends that are 0
    def error(low: float, high: float) -> float:
        return float((activation(fake_quantise(x, params_from_range(low, high))) - expected).square().mean())

    highs, lows = fractions * high, fractions * low
    for _ in range(ROUNDS):
        high = float(min(highs, key=lambda end: error(low, end)))
        low = float(min(lows, key=lambda end: error(end, high)))
    return low, high


def _find_best_magnitude(x: Tensor) -> float:
    """Return the magnitude of the symmetric range of least squared error."""
    options = np.geomspace(SMALLEST_FRACTION, 1.0, GRID) * float(x.abs().max())
    return float(
        min(options, key=lambda end: float((fake_quantise(x, params_from_magnitude(end)) - x).square().mean()))
    )
