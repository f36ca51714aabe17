"""Frames -> a range for every tensor. Knows the executor and the error that rounding causes; knows no placement.

Which observer suits which part was measured at the outputs (docs/int8.md):
- backbone: the range of least squared error on a sample (as the MSE observer of Nagel et al., arXiv 2106.08295
  section 3.1). Few channels reach far beyond the rest; covering them costs all others their steps.
- BiFPN and heads: least squared error where detections come from (``places``). The background, most of a picture, would
  clip the objects; the observed extremes give the steps to what no detection uses. A level on which the frames show
  too few detections: the extremes in BiFPN and class head, least squared error everywhere in the box head.
- before a swish: judged behind the swish, which flattens everything below about -6.
- class logits: from logit(0.01) on, because detections are scored from 0.01, and the steps are finer for the rest.
- sigmoids have no range: their scale is fixed.
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
from edgedet.calibration.ranges.frames import measure_range_movement
from edgedet.errors import InputError
from edgedet.progress import with_progress

SAMPLES = 1 << 15  # values of a tensor that its range is judged on
SAMPLES_PER_FRAME = 256, 4096  # at least, at most
LOWEST_LOGIT = math.log(0.01 / 0.99)  # detections are scored from 0.01 on
GRID = 16  # range ends tried: fractions of the observed ones
SMALLEST_FRACTION = 0.1
ROUNDS = 2  # of coordinate descent over the two ends
OBSERVERS = ("mixed", "mse", "minmax", "percentile")
UNRANGED = ("Cast", "Reshape", "Concat", "Sigmoid", "Transpose", "Pad", "MaxPool", "Resize")
LEAST_ERROR = ("backbone.", "box_net.")
LEAST_SAMPLES = 1024  # at places of detections, for a range to be judged on them


@dataclass
class ObservedTensor:
    """What one tensor was seen to hold.

    extremes:  each frame's (minimum, maximum).
    samples:   of each frame's values.
    at_places: the same of where detections come from; empty for tensors of the backbone.
    """

    low: float = math.inf
    high: float = -math.inf
    extremes: list[tuple[float, float]] = field(default_factory=list)
    samples: list[Tensor] = field(default_factory=list)
    at_places: list[Tensor] = field(default_factory=list)

    def add(self, value: Tensor, at_places: Tensor | None, offset: int, share: int) -> None:
        """Take in one frame's values: the extremes of all, an evenly spaced sample of ``share`` of the rest."""
        low, high = (float(end) for end in torch.aminmax(_in_memory_order(value)))
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.extremes.append((low, high))
        self.samples.append(_spread(value, offset, share))
        if at_places is not None:  # all that may be: many frames have none
            self.at_places.append(_spread(at_places, offset, SAMPLES_PER_FRAME[1]))

    def sample(self) -> Tensor:
        """Return values taken evenly from all frames."""
        return _thinned(self.samples)

    def sample_at_places(self) -> Tensor | None:
        """Return values of where detections come from; None where there are too few."""
        return _thinned(self.at_places) if sum(map(len, self.at_places)) >= LEAST_SAMPLES else None


def _in_memory_order(value: Tensor) -> Tensor:
    """Return a view of a map (N, C, H, W) whose elements come as they lie in memory; PyTorch keeps channels last.

    Reductions then read straight through memory: the two ends of D0's values cost a third of the time.
    """
    channels_last = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
    return value.permute(0, 2, 3, 1) if channels_last else value


def _spread(value: Tensor, offset: int, share: int) -> Tensor:
    """Return at most ``share`` elements at even distances, in the order N, C, H, W, without a copy of the rest."""
    step = max(1, value.numel() // share)
    chosen = torch.arange(offset % step, value.numel(), step)[:share]
    return value[torch.unravel_index(chosen, value.shape)]


def _compact(lists: Sequence[list[Tensor]]) -> None:
    """Move the last tensor of each list into one block of memory.

    Many small ones, left where a frame's large ones were between, keep the heap from shrinking: D0 took 6.5 GB.
    """
    held = [samples for samples in lists if samples]
    if held:
        joined = torch.cat([samples[-1] for samples in held]).split([len(samples[-1]) for samples in held])
        for samples, moved in zip(held, joined, strict=True):
            samples[-1] = moved


def _thinned(samples: list[Tensor]) -> Tensor:
    values = torch.cat(samples)
    return values[:: max(1, len(values) // SAMPLES)]


def observe(
    executor: Executor, frames: Sequence[np.ndarray], seed: int = 0
) -> tuple[dict[str, ObservedTensor], list[str]]:
    """Run the frames (1, H, W, 3) uint8; return what each ranged tensor held, and the frames' SHA-256.

    Raises InputError where a value is not finite, or there is no frame.
    """
    if not frames:
        raise InputError("calibration needs at least one frame.")
    seen: dict[str, ObservedTensor] = {}
    hashes: list[str] = []
    share = int(np.clip(SAMPLES // len(frames), *SAMPLES_PER_FRAME))
    random = np.random.default_rng(seed)
    ranged = [
        node.output[0]
        for node in executor.nodes
        if node.op_type not in UNRANGED and not node.output[0].endswith(".rows")
    ]
    for pixels in with_progress(frames, "observing", "frame"):
        offset = int(random.integers(1 << 20))
        values = executor.values(pixels)
        places = find_places(executor, values)
        for name in ranged:
            seen.setdefault(name, ObservedTensor()).add(values[name], places.values(name, values[name]), offset, share)
        del values  # what a frame computes is large
        _compact([item.samples for item in seen.values()])
        _compact([item.at_places for item in seen.values()])
        hashes.append(hashlib.sha256(pixels.tobytes()).hexdigest())
    bad = [name for name, item in seen.items() if not math.isfinite(item.low + item.high)]
    if bad:
        raise InputError(f"the model computes NaN or infinity at {bad[0]}: its weights cannot be calibrated.")
    return seen, hashes


def compare_halves(seen: Mapping[str, ObservedTensor]) -> tuple[float, float, str] | None:
    """Return how far ranges move from the first half of the frames to the second (``measure_range_movement``).

    None for a single frame.
    """
    count = min(len(item.extremes) for item in seen.values())
    if count < 2:
        return None
    halves = [
        {name: (min(low for low, _ in part), max(high for _, high in part)) for name, part in parts.items()}
        for parts in (
            {name: item.extremes[: count // 2] for name, item in seen.items()},
            {name: item.extremes[count // 2 :] for name, item in seen.items()},
        )
    ]
    return measure_range_movement(*halves)


def table_from_observed(
    executor: Executor, seen: dict[str, ObservedTensor], hashes: list[str], model_sha256: str, observer: str = "mixed"
) -> CalibrationTable:
    """Choose a range for each tensor; ``observer`` "mixed" (as above), "mse", "minmax" or "percentile" (99.99 %)."""
    swished = {node.input[0] for node in executor.nodes if node.op_type == "Sigmoid" and not _is_gate(node)}
    ranges, magnitudes = {}, {}
    for name, item in seen.items():
        low, high = item.low, item.high
        magnitude = max(-low, high)
        if name.startswith(PREDICTION):
            low, high = max(low, LOWEST_LOGIT), max(high, LOWEST_LOGIT)
        elif observer == "percentile":
            low, high = (float(v) for v in np.quantile(item.sample().numpy(), [1e-4, 1 - 1e-4]))
            magnitude = max(-low, high)
        elif (sample := _judged_on(name, item, observer)) is not None:
            low, high = _best_range(sample, torch.nn.functional.silu if name in swished else _identity)
            magnitude = _best_magnitude(sample)
        ranges[name], magnitudes[name] = (low, high), magnitude
    observed = {name: (item.low, item.high) for name, item in seen.items()}
    return CalibrationTable(ranges, magnitudes, observed, tuple(hashes), model_sha256)


def _judged_on(name: str, item: ObservedTensor, observer: str) -> Tensor | None:
    """Return the values that a range has the least squared error on; None where it covers the extremes."""
    if observer == "mixed" and (there := item.sample_at_places()) is not None:
        return there
    return item.sample() if observer == "mse" or (observer == "mixed" and name.startswith(LEAST_ERROR)) else None


def _is_gate(node: onnx.NodeProto) -> bool:
    return node.output[0].endswith(".gate")


def _identity(x: Tensor) -> Tensor:
    return x


def fake_quantise(x: Tensor, q: QuantParams) -> Tensor:
    """Quantise and dequantise."""
    return torch.fake_quantize_per_tensor_affine(x, q.scale, q.zero_point, INT8_MIN, INT8_MAX)


def _best_range(x: Tensor, seen_through: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Return the range of least squared error, seen through what follows; ends are tried in turn."""
    wanted = seen_through(x)
    fractions = np.geomspace(SMALLEST_FRACTION, 1.0, GRID)
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)

    def error(low: float, high: float) -> float:
        return float((seen_through(fake_quantise(x, params_from_range(low, high))) - wanted).square().mean())

    highs, lows = fractions * high, fractions * low
    for _ in range(ROUNDS):
        high = float(min(highs, key=lambda end: error(low, end)))
        low = float(min(lows, key=lambda end: error(end, high)))
    return low, high


def _best_magnitude(x: Tensor) -> float:
    """Return the symmetric range of least squared error."""
    options = np.geomspace(SMALLEST_FRACTION, 1.0, GRID) * float(x.abs().max())
    return float(
        min(options, key=lambda end: float((fake_quantise(x, params_from_magnitude(end)) - x).square().mean()))
    )
