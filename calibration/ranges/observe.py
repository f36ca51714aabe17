"""Run the float graph on calibration frames, and keep of every tensor its extremes and a sample of its values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.graph.places import find_places
from edgedet.errors import InputError
from edgedet.progress import with_progress

SAMPLES = 1 << 15  # values of a tensor on which the error of a range is measured
SAMPLES_PER_FRAME = 256, 4096  # at least, at most
WITHOUT_RANGE = ("Cast", "Reshape", "Concat", "Sigmoid", "Transpose", "Pad", "MaxPool", "Resize")
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
    samples:  a sample of each tensor's values, float32, one after the other; counts: (T,) values of each tensor.
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
    at_places = [None if value is None else _take_evenly(value, task.offset, SAMPLES_PER_FRAME[1]) for value in chosen]
    return ObservedFrame(
        extremes,
        torch.cat(samples).numpy(),
        np.array([len(sample) for sample in samples]),
        torch.cat([sample for sample in at_places if sample is not None] or [torch.empty(0)]).numpy(),
        np.array([-1 if sample is None else len(sample) for sample in at_places]),
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
