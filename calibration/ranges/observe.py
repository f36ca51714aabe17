"""Run the float graph on calibration frames and choose a range for every tensor.

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

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from torch import Tensor

from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.graph.places import PREDICTION, find_places
from edgedet.calibration.placement.plan import INT8_MAX, INT8_MIN, QuantParams, params_from_magnitude, params_from_range
from edgedet.calibration.placement.table import CalibrationTable
from edgedet.errors import InputError
from edgedet.progress import with_progress

SAMPLES = 1 << 15  # values of a tensor on which the error of a range is measured
SAMPLES_PER_FRAME = 256, 4096  # at least, at most
LOWEST_LOGIT = math.log(0.01 / 0.99)  # detections are scored from 0.01 on
GRID = 16  # number of ends of a range that are tried, each a fraction of the observed end
SMALLEST_FRACTION = 0.1
ROUNDS = 2  # of coordinate descent over the two ends
OBSERVERS = ("mixed", "mse", "minmax", "percentile")
WITHOUT_RANGE = ("Cast", "Reshape", "Concat", "Sigmoid", "Transpose", "Pad", "MaxPool", "Resize")
LEAST_ERROR = ("backbone.", "box_net.")
LEAST_SAMPLES = 1024  # with fewer values from places of detections, other values are used


@dataclass
class ObservedTensor:
    """The values of one tensor over all frames: their extremes and samples.

    low, high: minimum and maximum over all frames.
    extremes:  (minimum, maximum) of each frame.
    samples:   for each frame, a sample of its values.
    at_places: the same, only from where detections come from; empty for tensors of the backbone.
    """

    low: float = math.inf
    high: float = -math.inf
    extremes: list[tuple[float, float]] = field(default_factory=list)
    samples: list[Tensor] = field(default_factory=list)
    at_places: list[Tensor] = field(default_factory=list)

    def add(self, value: Tensor, at_places: Tensor | None, offset: int, count: int) -> None:
        """Add one frame's values: their extremes, and an evenly spaced sample of at most ``count`` of them."""
        low, high = (float(end) for end in torch.aminmax(_view_in_memory_order(value)))
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.extremes.append((low, high))
        self.samples.append(_take_evenly(value, offset, count))
        if at_places is not None:  # as many as possible, because many frames have none
            self.at_places.append(_take_evenly(at_places, offset, SAMPLES_PER_FRAME[1]))

    def sample(self) -> Tensor:
        """Return at most SAMPLES values, taken evenly from all frames."""
        return _thin_out(self.samples)

    def sample_at_places(self) -> Tensor | None:
        """Return values from where detections come from; None where there are too few."""
        return _thin_out(self.at_places) if sum(map(len, self.at_places)) >= LEAST_SAMPLES else None


def _view_in_memory_order(value: Tensor) -> Tensor:
    """Return a view of a map (N, C, H, W) in the order in which memory holds its elements, often channels last.

    Reductions then read straight through memory: the two ends of D0's values cost a third of the time.
    """
    channels_last = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
    return value.permute(0, 2, 3, 1) if channels_last else value


def _take_evenly(value: Tensor, offset: int, count: int) -> Tensor:
    """Return at most ``count`` elements at even distances, in the order N, C, H, W, without a copy of the rest."""
    step = max(1, value.numel() // count)
    chosen = torch.arange(offset % step, value.numel(), step)[:count]
    return value[torch.unravel_index(chosen, value.shape)]


def _compact(lists: Sequence[list[Tensor]]) -> None:
    """Move the last tensor of each list into one block of memory.

    Otherwise many small tensors stay scattered between the freed large ones of their frames, and the heap cannot
    shrink: D0 took 6.5 GB.
    """
    filled = [samples for samples in lists if samples]
    if filled:
        block = torch.cat([samples[-1] for samples in filled])
        parts = block.split([len(samples[-1]) for samples in filled])
        for samples, part in zip(filled, parts, strict=True):
            samples[-1] = part


def _thin_out(samples: list[Tensor]) -> Tensor:
    values = torch.cat(samples)
    return values[:: max(1, len(values) // SAMPLES)]


def observe(
    executor: Executor, frames: Sequence[np.ndarray], seed: int = 0
) -> tuple[dict[str, ObservedTensor], list[str]]:
    """Run the frames, (1, H, W, 3) uint8 each; return the observed tensors by name, and the SHA-256 of each frame.

    Raises InputError where a value is not finite, and where there is no frame.
    """
    if not frames:
        raise InputError("calibration needs at least one frame.")
    observed: dict[str, ObservedTensor] = {}
    hashes: list[str] = []
    count = int(np.clip(SAMPLES // len(frames), *SAMPLES_PER_FRAME))
    random = np.random.default_rng(seed)
    names = [
        node.output[0]
        for node in executor.nodes
        if node.op_type not in WITHOUT_RANGE and not node.output[0].endswith(".rows")
    ]
    for pixels in with_progress(frames, "observing", "frame"):
        offset = int(random.integers(1 << 20))
        values = executor.values(pixels)
        places = find_places(executor, values)
        for name in names:
            at_places = places.values(name, values[name])
            observed.setdefault(name, ObservedTensor()).add(values[name], at_places, offset, count)
        del values  # they are large
        _compact([item.samples for item in observed.values()])
        _compact([item.at_places for item in observed.values()])
        hashes.append(hashlib.sha256(pixels.tobytes()).hexdigest())
    bad = [name for name, item in observed.items() if not math.isfinite(item.low + item.high)]
    if bad:
        raise InputError(f"the model computes NaN or infinity at {bad[0]}: its weights cannot be calibrated.")
    return observed, hashes


def measure_range_movement(
    first: Mapping[str, tuple[float, float]], second: Mapping[str, tuple[float, float]]
) -> tuple[float, float, str]:
    """Return how far ranges differ between two halves of the frames: (median, largest, name of its tensor).

    A tensor's movement is the larger of its two ends' differences, as a share of the wider of its two ranges.
    """
    moved = {}
    for name, (low, high) in first.items():
        other_low, other_high = second[name]
        width = max(high - low, other_high - other_low)
        moved[name] = max(abs(high - other_high), abs(low - other_low)) / width if width > 0 else 0.0
    worst = max(moved, key=moved.__getitem__)
    return float(np.median(list(moved.values()))), moved[worst], worst


def compare_halves(observed: Mapping[str, ObservedTensor]) -> tuple[float, float, str] | None:
    """Return how far ranges move from the first half of the frames to the second (``measure_range_movement``).

    None for a single frame.
    """
    count = min(len(item.extremes) for item in observed.values())
    if count < 2:
        return None
    halves = [
        {name: (min(low for low, _ in part), max(high for _, high in part)) for name, part in parts.items()}
        for parts in (
            {name: item.extremes[: count // 2] for name, item in observed.items()},
            {name: item.extremes[count // 2 :] for name, item in observed.items()},
        )
    ]
    return measure_range_movement(*halves)


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
