"""Ranges of the tensors that cost most, judged at the network's outputs. Knows the executor; knows no files.

A range of least squared error treats all channels alike, but a stem's widest channels may matter least: on the cards
checkpoint the stem's swish, rounded alone, puts the logits off by 0.079, and with half its range by 0.029
(docs/int8.md). So each tensor of the backbone is rounded alone, the rest float; of the worst, both ends of the range
are tried in turn, and the error of class logits and box codes is measured where the float model detects something.
BiFPN and heads are judged there already (``places``).
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
from edgedet.calibration.ranges.observe import LOWEST_LOGIT, fake_quantise
from edgedet.progress import with_progress

PART = "backbone."
RANKED = 168  # tensors, the first: all of D0's; what loses most is early, and D4 has 343
WORST_DENSE, WORST_SPARSE = 8, 4  # tensors
JUDGED_ON = 6  # frames; tensors are ranked on the first
FRACTIONS = (0.35, 0.5, 0.7, 1.0, 1.4)  # of the range's end
BEHIND = (2.0, 1.5, 1.3, 1.2)  # after so many frames: an end with so many times the least error is judged no further
SMALLEST_SHARE = 0.05  # an end that is less of the other one changes no step: left as it is

Range = tuple[float, float]
LOW, HIGH, BOTH = "low", "high", "both"  # the end that is tried; both: of a magnitude


def _error(values: Mapping[str, Tensor], outputs: Sequence[Tensor], there: Tensor) -> float:
    """Return noise / signal of one frame's logits and codes together, as an amplitude.

    values: of the float graph; outputs: class logits (N, A, C) and box codes (N, A, 4) to judge; there: the anchors
    (N, A) that count. Amplitudes are summed over frames: by squares one frame with a rare outlier would decide alone.
    """
    share = 0.0
    for name, got in zip(OUTPUTS, outputs, strict=True):
        wanted, got = values[name][there].double(), got[there].double()
        if name == "class_logits":  # lower ones are no detection
            wanted, got = wanted.clamp_min(LOWEST_LOGIT) - LOWEST_LOGIT, got.clamp_min(LOWEST_LOGIT) - LOWEST_LOGIT
        share += float((got - wanted).square().sum() / wanted.square().sum().clamp_min(1e-30))
    return math.sqrt(share)


def refine_ranges(
    executor: Executor, table: CalibrationTable, dense: DensePlan, sparse: SparsePlan, pixels: Sequence[np.ndarray]
) -> CalibrationTable:
    """Return the table with better ranges and magnitudes for the backbone's tensors that cost most.

    dense, sparse: plans of that table, for the tensors that each placement rounds.
    pixels:        calibration frames, (1, H, W, 3) uint8 each; some of those with detections are used.
    """
    frames = _with_detections(executor, pixels)
    if not frames:
        return table
    ranged = [name for name in dense.tensors if name in table.ranges and name.startswith(PART)]
    scaled = [name for name in sparse.tensors if name in table.magnitudes and name.startswith(PART)]
    worst = partial(_worst_first, executor, frames[0])
    tries: dict[tuple[str, str], list[Range]] = {}
    for name in worst(ranged, dense.tensors)[:WORST_DENSE]:
        tries.update({(name, end): options for end, options in _ranges(table, name).items()})
    for name in worst(scaled, sparse.tensors)[:WORST_SPARSE]:
        tries[name, BOTH] = _magnitudes(table, name)
    errors = {key: np.zeros(len(options)) for key, options in tries.items()}
    work = [(frame, key) for frame in range(len(frames)) for key in tries]
    at, there = -1, torch.empty(0)
    values: dict[str, Tensor] = {}
    rests: dict[str, DownstreamGraph] = {}
    known: dict[tuple[str, QuantParams], float] = {}  # of this frame; both ends' present range is one
    for frame, key in with_progress(work, "judging ranges", "range"):
        if frame != at:
            values = {}  # what a frame computes is large: first let go of the one before
            at, values, known = frame, executor.values(frames[frame]), {}
            there = _places(values)
        name, end = key
        if name not in rests:
            rests[name] = DownstreamGraph(executor, name, values)
        for index in np.flatnonzero(np.isfinite(errors[key])):
            q = _scale_of(tries[key][index], end)
            if (name, q) not in known:
                known[name, q] = _error(values, rests[name](values, fake_quantise(values[name], q)), there)
            errors[key][index] += known[name, q]
        errors[key][errors[key] > BEHIND[min(frame, len(BEHIND) - 1)] * errors[key].min()] = np.inf
    ranges, magnitudes = dict(table.ranges), dict(table.magnitudes)
    for (name, end), options in tries.items():
        best_low, best_high = options[int(np.argmin(errors[name, end]))]
        if end == BOTH:
            magnitudes[name] = best_high
        else:
            low, high = ranges[name]
            ranges[name] = (best_low, high) if end == LOW else (low, best_high)
    return replace(table, ranges=ranges, magnitudes=magnitudes)


def _scale_of(ends: Range, end: str) -> QuantParams:
    return params_from_magnitude(ends[1]) if end == BOTH else params_from_range(*ends)


def _with_detections(executor: Executor, pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return frames that the model detects something in, JUDGED_ON at most, spread over all."""
    step = max(1, len(pixels) // JUDGED_ON)
    order = [index for first in range(step) for index in range(first, len(pixels), step)]
    found: list[np.ndarray] = []
    for index in order[: 4 * JUDGED_ON]:
        if len(found) == JUDGED_ON:
            break
        logits, _ = executor.run(pixels[index])
        if float(logits.max()) >= math.log(SCORE / (1.0 - SCORE)):
            found.append(pixels[index])
    return found


def _places(values: Mapping[str, Tensor]) -> Tensor:
    """Return which anchors (N, A) the float model scores SCORE and more."""
    return values["class_logits"].amax(-1) >= math.log(SCORE / (1.0 - SCORE))


def _worst_first(
    executor: Executor, pixels: np.ndarray, names: Sequence[str], scales: Mapping[str, QuantParams]
) -> list[str]:
    """Return the first RANKED tensors by the error that each causes alone."""
    values = executor.values(pixels)
    there = _places(values)

    def error(name: str) -> float:
        return _error(values, executor.outputs_after(values, {name: fake_quantise(values[name], scales[name])}), there)

    errors = {name: error(name) for name in with_progress(names[:RANKED], "ranking tensors", "tensor")}
    return sorted(errors, key=lambda name: -errors[name])


def _ends(end: float, seen: float) -> list[float]:
    """Return the ends to try: fractions of the present one, none beyond what was seen."""
    return sorted({math.copysign(min(abs(end) * fraction, max(abs(seen), abs(end))), end) for fraction in FRACTIONS})


def _ranges(table: CalibrationTable, name: str) -> dict[str, list[Range]]:
    """Return by end the ranges to try, the present one among them; the other end is as it is."""
    low, high = table.ranges[name]
    seen_low, seen_high = table.observed.get(name, (low, high))
    options = {}
    if high > -SMALLEST_SHARE * low:
        options[HIGH] = [(low, end) for end in _ends(high, seen_high)]
    if -low > SMALLEST_SHARE * high:
        options[LOW] = [(end, high) for end in _ends(low, seen_low)]
    return options


def _magnitudes(table: CalibrationTable, name: str) -> list[Range]:
    magnitude = table.magnitudes[name]
    seen = max(map(abs, table.observed.get(name, (magnitude, magnitude))))
    return [(-end, end) for end in _ends(magnitude, seen)]
