"""Find thresholds of the motion gate for a scene: the fewest looks that still keep a given share of detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from ..errors import SourceError
from ..track.assignment import assign
from ..track.byte_track import iou_of
from ..types import Detections, Frame, FrameResult
from .gate import MotionRules
from .gated import GatedDetector
from .packing import Detect, Look, Part, make_look

CANDIDATES = tuple(
    MotionRules(threshold, area)
    for threshold in (4.0, 8.0, 16.0, 32.0, 64.0)
    for area in (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005)
)
SAME_IOU = 0.5


@dataclass(frozen=True)
class Trial:
    """How the gate does with some rules on a scene.

    kept:  share of the detections in all frames that are there with the gate, too: same class, IoU 0.5.
    looks: share of the frames at which the detector looks; squares: of these, the share that is a part of the picture.
    """

    rules: MotionRules
    kept: float
    looks: float
    squares: float


@dataclass(frozen=True)
class Calibration:
    """The chosen rules, all that were tried, and the chosen rules' figures as measured with the detector itself."""

    frames: int
    detections: int
    chosen: Trial
    measured: Trial
    trials: Tuple[Trial, ...]


def calibrate(
    frames: Iterable[Frame],
    detect: Detect,
    input_px: int,
    keep: float,
    progress: Callable[[int], None],
    candidates: Sequence[MotionRules] = CANDIDATES,
) -> Calibration:
    """Return the rules with the fewest looks that keep ``keep`` of all detections, or those that keep most.

    The detector looks at every frame once; the trials then take from that what lies in a square. The chosen rules are
    measured with the detector again, since it sees small objects better in a square. Frames are held in memory.
    Raises SourceError without frames or detections.
    """
    seen: List[FrameResult] = []
    for frame in frames:
        seen.append(detect(frame))
        progress(len(seen))
    detections = sum(len(result.detections) for result in seen)
    if not seen:
        raise SourceError("there is no frame in this source.")
    if not detections:
        raise SourceError(f"nothing was detected in {len(seen)} frames: take a scene with objects, or a lower --score.")
    trials = [_trial(rules, seen, _from_memory(seen), input_px) for rules in candidates]
    chosen = _best_of(trials, keep)
    if chosen is None:
        chosen = max(trials, key=lambda trial: (trial.kept, -trial.looks))
    measured = _trial(chosen.rules, seen, make_look(detect, input_px), input_px)
    return Calibration(len(seen), detections, chosen, measured, tuple(trials))


def _best_of(trials: Sequence[Trial], keep: float) -> Optional[Trial]:
    good = [trial for trial in trials if trial.kept >= keep]
    return min(good, key=lambda trial: (trial.looks, -trial.kept)) if good else None


def _trial(rules: MotionRules, seen: Sequence[FrameResult], look: Look, input_px: int) -> Trial:
    gated = GatedDetector(look, rules, input_px)
    kept = total = 0
    for result in seen:
        kept += _matches(result.detections, gated.detect(result.frame).detections)
        total += len(result.detections)
    looks = gated.looks["square"] + gated.looks["whole"]
    return Trial(rules, kept / max(total, 1), looks / len(seen), gated.looks["square"] / max(looks, 1))


def _from_memory(seen: Sequence[FrameResult]) -> Look:
    """Return a function that answers a look into a square from the detections in the whole frame."""
    by_index = {result.frame.index: result.detections for result in seen}

    def look(parts: Sequence[Part]) -> List[Detections]:
        by_part = []
        for part in parts:
            detections = by_index[part.frame.index]
            centres = (detections.boxes_xyxy[:, :2] + detections.boxes_xyxy[:, 2:]) / 2
            inside = (centres >= part.square[:2]) & (centres < part.square[2:])
            by_part.append(detections[inside.all(axis=1)])
        return by_part

    return look


def _matches(reference: Detections, detections: Detections) -> int:
    """Return how many of the reference's boxes have one of the same class at SAME_IOU or more, each used once."""
    if not len(reference) or not len(detections):
        return 0
    iou = iou_of(reference.boxes_xyxy.astype(np.float64), detections.boxes_xyxy.astype(np.float64))
    iou[reference.class_ids[:, None] != detections.class_ids[None, :]] = 0.0
    return sum(iou[pair] >= SAME_IOU for pair in assign(iou))
