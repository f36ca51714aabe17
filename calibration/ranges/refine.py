"""Try other ranges for the backbone's worst tensors, and keep those with the least error at the network's outputs.

A range of least squared error treats all channels alike, but a stem's widest channels may matter least: on the cards
checkpoint the stem's swish, rounded alone, puts the logits off by 0.079, and with half its range by 0.029
(docs/int8.md). So each tensor of the backbone is rounded alone while the rest stays float. For the worst of them
other ends of the range are tried in turn, and the error of class logits and box codes is measured at anchors where the
float model detects something. For BiFPN and heads the observer uses such places already (``places``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from edgedet.calibration.graph.downstream import DownstreamGraph
from edgedet.calibration.graph.executor import OUTPUTS, Executor
from edgedet.calibration.graph.places import SCORE
from edgedet.calibration.placement.plan import (
    DensePlan,
    QuantParams,
    SparsePlan,
    params_from_magnitude,
    params_from_range,
)
from edgedet.calibration.placement.table import CalibrationTable
from edgedet.calibration.ranges.choose import LOWEST_LOGIT, fake_quantise
from edgedet.progress import with_progress

PART = "backbone."
RANKED = 168  # the first so many tensors are ranked: all of D0's; the worst are early ones, and D4 has 343
WORST_DENSE, WORST_SPARSE = 8, 4  # tensors
MOST_FRAMES = 6  # on which ranges are tried; tensors are ranked on the first of them
FRACTIONS = (0.35, 0.5, 0.7, 1.0, 1.4)  # of the range's present end, to be tried
# After the first frame, an option with twice the least error is tried no further; after the second one with 1.5 times.
GIVE_UP_RATIOS = (2.0, 1.5, 1.3, 1.2)
SMALLEST_SHARE = 0.05  # an end that is a smaller share of the other one hardly changes the step: it is not tried

Range = tuple[float, float]
LOW, HIGH, BOTH = "low", "high", "both"  # the end of the range that is tried; both: a magnitude, for sparse placement


def _compute_error(values: Mapping[str, Tensor], outputs: Sequence[Tensor], anchors: Tensor) -> float:
    """Return noise / signal of one frame's logits and codes together, as an amplitude.

    values:  of the float graph.
    outputs: class logits (N, A, C) and box codes (N, A, 4) with the error.
    anchors: (N, A) bool, those that count.
    Amplitudes are summed over frames: with squares, one frame with a rare outlier would decide alone.
    """
    ratio = 0.0
    for name, output in zip(OUTPUTS, outputs, strict=True):
        reference, actual = values[name][anchors].double(), output[anchors].double()
        if name == "class_logits":  # lower ones are no detection
            reference = reference.clamp_min(LOWEST_LOGIT) - LOWEST_LOGIT
            actual = actual.clamp_min(LOWEST_LOGIT) - LOWEST_LOGIT
        ratio += float((actual - reference).square().sum() / reference.square().sum().clamp_min(1e-30))
    return math.sqrt(ratio)


def refine_ranges(
    executor: Executor, table: CalibrationTable, dense: DensePlan, sparse: SparsePlan, pixels: Sequence[np.ndarray]
) -> CalibrationTable:
    """Return the table with better ranges and magnitudes for the backbone's tensors that cost most.

    dense, sparse: plans made from the table; they say which tensors each placement rounds.
    pixels:        calibration frames, (1, H, W, 3) uint8 each; some of those with detections are used.
    """
    frames = _find_frames_with_detections(executor, pixels)
    if not frames:
        return table
    dense_names = [name for name in dense.tensors if name in table.ranges and name.startswith(PART)]
    sparse_names = [name for name in sparse.tensors if name in table.magnitudes and name.startswith(PART)]
    rank = partial(_rank_by_error, executor, frames[0])
    options_of: dict[tuple[str, str], list[Range]] = {}
    for name in rank(dense_names, dense.tensors)[:WORST_DENSE]:
        options_of.update({(name, end): options for end, options in _list_ranges(table, name).items()})
    for name in rank(sparse_names, sparse.tensors)[:WORST_SPARSE]:
        options_of[name, BOTH] = _list_magnitudes(table, name)
    errors = {key: np.zeros(len(options)) for key, options in options_of.items()}
    work = [(frame, key) for frame in range(len(frames)) for key in options_of]
    current, anchors = -1, torch.empty(0)
    values: dict[str, Tensor] = {}
    downstream: dict[str, DownstreamGraph] = {}
    known: dict[tuple[str, QuantParams], float] = {}  # errors of this frame; low and high end share the present range
    for frame, key in with_progress(work, "judging ranges", "range"):
        if frame != current:
            values = {}  # a frame's values are large: free those of the previous frame first
            current, values, known = frame, executor.values(frames[frame]), {}
            anchors = _find_detecting_anchors(values)
        name, end = key
        if name not in downstream:
            downstream[name] = DownstreamGraph(executor, name, values)
        for index in np.flatnonzero(np.isfinite(errors[key])):
            q = _params_of(options_of[key][index], end)
            if (name, q) not in known:
                known[name, q] = _compute_error(
                    values, downstream[name](values, fake_quantise(values[name], q)), anchors
                )
            errors[key][index] += known[name, q]
        errors[key][errors[key] > GIVE_UP_RATIOS[min(frame, len(GIVE_UP_RATIOS) - 1)] * errors[key].min()] = np.inf
    ranges, magnitudes = dict(table.ranges), dict(table.magnitudes)
    for (name, end), options in options_of.items():
        best_low, best_high = options[int(np.argmin(errors[name, end]))]
        if end == BOTH:
            magnitudes[name] = best_high
        else:
            low, high = ranges[name]
            ranges[name] = (best_low, high) if end == LOW else (low, best_high)
    return replace(table, ranges=ranges, magnitudes=magnitudes)


def _params_of(ends: Range, end: str) -> QuantParams:
    return params_from_magnitude(ends[1]) if end == BOTH else params_from_range(*ends)


def _find_frames_with_detections(executor: Executor, pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return at most MOST_FRAMES frames in which the model detects something, spread over all frames."""
    step = max(1, len(pixels) // MOST_FRAMES)
    order = [index for first in range(step) for index in range(first, len(pixels), step)]
    chosen: list[np.ndarray] = []
    for index in order[: 4 * MOST_FRAMES]:
        if len(chosen) == MOST_FRAMES:
            break
        logits, _ = executor.run(pixels[index])
        if float(logits.max()) >= math.log(SCORE / (1.0 - SCORE)):
            chosen.append(pixels[index])
    return chosen


def _find_detecting_anchors(values: Mapping[str, Tensor]) -> Tensor:
    """Return (N, A) bool: the anchors whose score by the float model is at least SCORE."""
    return values["class_logits"].amax(-1) >= math.log(SCORE / (1.0 - SCORE))


def _rank_by_error(
    executor: Executor, pixels: np.ndarray, names: Sequence[str], scales: Mapping[str, QuantParams]
) -> list[str]:
    """Return the first RANKED tensors, sorted by the error that each of them causes alone, the largest first."""
    values = executor.values(pixels)
    anchors = _find_detecting_anchors(values)

    def error(name: str) -> float:
        changed = {name: fake_quantise(values[name], scales[name])}
        return _compute_error(values, executor.outputs_after(values, changed), anchors)

    errors = {name: error(name) for name in with_progress(names[:RANKED], "ranking tensors", "tensor")}
    return sorted(errors, key=lambda name: -errors[name])


def _list_ends(end: float, observed: float) -> list[float]:
    """Return the ends to try: fractions of the present end, none beyond the observed one."""
    largest = max(abs(observed), abs(end))
    return sorted({math.copysign(min(abs(end) * fraction, largest), end) for fraction in FRACTIONS})


def _list_ranges(table: CalibrationTable, name: str) -> dict[str, list[Range]]:
    """Return for each end the ranges to try, the present one among them; the other end stays as it is."""
    low, high = table.ranges[name]
    observed_low, observed_high = table.observed.get(name, (low, high))
    options = {}
    if high > -SMALLEST_SHARE * low:
        options[HIGH] = [(low, end) for end in _list_ends(high, observed_high)]
    if -low > SMALLEST_SHARE * high:
        options[LOW] = [(end, high) for end in _list_ends(low, observed_low)]
    return options


def _list_magnitudes(table: CalibrationTable, name: str) -> list[Range]:
    magnitude = table.magnitudes[name]
    observed = max(map(abs, table.observed.get(name, (magnitude, magnitude))))
    return [(-end, end) for end in _list_ends(magnitude, observed)]
