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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

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


@dataclass(frozen=True, eq=False)
class FrameTask:
    """One frame to observe: (1, H, W, 3) uint8 pixels, and where and how many values of each tensor are sampled."""

    pixels: np.ndarray
    offset: int
    count: int


@dataclass(frozen=True, eq=False)
class ObservedFrame:
    """What the float graph computed in one frame, tensor by tensor in the order of ``list_observed``.

    extremes: (T, 2) float64, minimum and maximum of each tensor.
    samples:  a sample of each tensor's values, float32, one after the other; counts: (T,) how many are whose.
    at_places, place_counts: the same, only from where detections come from; -1 for tensors of the backbone.
    sha256:   of the pixels.

    Samples lie in one block of memory each. Many small tensors would stay scattered between the freed large ones of
    their frames, and the heap could not shrink: D0 took 6.5 GB.
    """

    extremes: np.ndarray
    samples: np.ndarray
    counts: np.ndarray
    at_places: np.ndarray
    place_counts: np.ndarray
    sha256: str


@dataclass
class ObservedTensor:
    """The values of one tensor over all frames: their extremes and samples.

    extremes:  (minimum, maximum) of each frame.
    samples:   for each frame, a sample of its values.
    at_places: the same, only from where detections come from; empty for tensors of the backbone.
    """

    extremes: list[tuple[float, float]] = field(default_factory=list)
    samples: list[Tensor] = field(default_factory=list)
    at_places: list[Tensor] = field(default_factory=list)

    @property
    def low(self) -> float:
        """The minimum over all frames."""
        return min(low for low, _ in self.extremes)

    @property
    def high(self) -> float:
        """The maximum over all frames."""
        return max(high for _, high in self.extremes)

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
    """Return at most ``count`` elements at even distances, in the order N, C, H, W, without a copy of the rest.

    NumPy finds the places: PyTorch's unravel_index imports SymPy, which takes most of a second.
    """
    step = max(1, value.numel() // count)
    chosen = np.arange(offset % step, value.numel(), step)[:count]
    return value[tuple(torch.from_numpy(index) for index in np.unravel_index(chosen, value.shape))]


def _thin_out(samples: list[Tensor]) -> Tensor:
    values = torch.cat(samples)
    return values[:: max(1, len(values) // SAMPLES)]


def list_observed(executor: Executor) -> list[str]:
    """Return the names of the tensors that need a range."""
    return [
        node.output[0]
        for node in executor.nodes
        if node.op_type not in WITHOUT_RANGE and not node.output[0].endswith(".rows")
    ]


def observe_frame(executor: Executor, task: FrameTask) -> ObservedFrame:
    """Run one frame; return the extremes and a sample of every tensor that needs a range."""
    values = executor.values(task.pixels)
    places = find_places(executor, values)
    names = list_observed(executor)
    extremes = np.array([[float(end) for end in torch.aminmax(_view_in_memory_order(values[name]))] for name in names])
    samples = [_take_evenly(values[name], task.offset, task.count) for name in names]
    chosen = [places.values(name, values[name]) for name in names]
    # As many as possible, because many frames have none
    at_places = [None if one is None else _take_evenly(one, task.offset, SAMPLES_PER_FRAME[1]) for one in chosen]
    return ObservedFrame(
        extremes,
        torch.cat(samples).numpy(),
        np.array([len(one) for one in samples]),
        torch.cat([one for one in at_places if one is not None] or [torch.empty(0)]).numpy(),
        np.array([-1 if one is None else len(one) for one in at_places]),
        hashlib.sha256(task.pixels.tobytes()).hexdigest(),
    )


def _observe_here(executor: Executor, tasks: Sequence[FrameTask]) -> Iterator[ObservedFrame]:
    for task in with_progress(tasks, "observing", "frame"):
        yield observe_frame(executor, task)


def observe(
    executor: Executor,
    frames: Sequence[np.ndarray],
    seed: int = 0,
    observe_frames: Callable[[list[FrameTask]], Iterable[ObservedFrame]] | None = None,
) -> tuple[dict[str, ObservedTensor], list[str]]:
    """Run the frames, (1, H, W, 3) uint8 each; return the observed tensors by name, and the SHA-256 of each frame.

    observe_frames: runs them elsewhere, with the results of ``observe_frame``; None runs them here.
    Raises InputError where a value is not finite, and where there is no frame.
    """
    if not frames:
        raise InputError("calibration needs at least one frame.")
    count = int(np.clip(SAMPLES // len(frames), *SAMPLES_PER_FRAME))
    random = np.random.default_rng(seed)
    tasks = [FrameTask(pixels, int(random.integers(1 << 20)), count) for pixels in frames]
    observed = {name: ObservedTensor() for name in list_observed(executor)}
    hashes: list[str] = []
    for frame in (observe_frames or partial(_observe_here, executor))(tasks):
        samples = torch.from_numpy(frame.samples).split(frame.counts.tolist())
        at_places = iter(torch.from_numpy(frame.at_places).split(frame.place_counts[frame.place_counts >= 0].tolist()))
        for item, (low, high), sample, places in zip(
            observed.values(), frame.extremes.tolist(), samples, frame.place_counts, strict=True
        ):
            item.extremes.append((low, high))
            item.samples.append(sample)
            if places >= 0:
                item.at_places.append(next(at_places))
        hashes.append(frame.sha256)
    bad = [name for name, item in observed.items() if not np.isfinite(item.extremes).all()]
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
