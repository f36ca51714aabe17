"""How far two models' detections agree: COCO's matching and F1. Knows detections; knows no engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence, Tuple, Union

import numpy as np

from ..errors import ShapeError
from ..types import Detections

MATCH_IOU = 0.5  # from which on a box is the other model's
TIGHT_IOU = 0.85  # boxes that moved keep F1 at IoU 0.5 and lose it here


def above(detections: Detections, score: float) -> Detections:
    """Return the detections of ``score`` and more."""
    return detections[detections.scores >= score]


def counts_of(detections: Detections, reference: Detections, iou: float = MATCH_IOU) -> Tuple[int, int, int]:
    """Return the numbers of (true positives, detections, reference boxes); a true positive overlaps by ``iou``."""
    ignored = np.zeros(len(reference), dtype=bool)
    flags = match(detections, reference.boxes_xyxy, reference.class_ids, ignored, [iou])
    return int((flags == 1).sum()), len(detections), len(reference)


def f1_of(numbers: np.ndarray) -> Optional[float]:
    """Return 2 TP / (2 TP + FP + FN) of (TP, TP + FP, TP + FN); None where there is no box at all."""
    right, found, wanted = numbers
    return float(2.0 * right / (found + wanted)) if found + wanted else None


@dataclass(frozen=True, eq=False)
class Agreement:
    """How well a model's detections agree with those that are wanted, over several frames.

    counts: (frames, 3) float64, boxes of each frame: right at MATCH_IOU, found, wanted.
    f1:     at MATCH_IOU; None where there is no box at all.
    tight:  at TIGHT_IOU, likewise.
    """

    counts: np.ndarray
    f1: Optional[float]
    tight: Optional[float]

    @property
    def boxes(self) -> int:
        """The number of boxes that are wanted."""
        return int(self.counts[:, 2].sum())


def agreement_of(found: Sequence[Detections], wanted: Sequence[Detections]) -> Agreement:
    """Compare detections, both at the user's score, frame by frame; raises ShapeError for other numbers of frames."""
    if len(found) != len(wanted):
        raise ShapeError(f"detections of {len(found)} frames cannot be compared with those of {len(wanted)}.")
    counts, tight = (
        np.array([counts_of(*pair, iou) for pair in zip(found, wanted)], dtype=np.float64).reshape(-1, 3)
        for iou in (MATCH_IOU, TIGHT_IOU)
    )
    return Agreement(counts, f1_of(counts.sum(0)), f1_of(tight.sum(0)))


def match(
    found: Detections,
    boxes_xyxy: np.ndarray,
    class_ids: np.ndarray,
    ignored: np.ndarray,
    ious: Union[Sequence[float], np.ndarray],
) -> np.ndarray:
    """Return (len(ious), n) int8 for n detections, best score first: 1 right, 0 wrong, -1 not counted.

    Each takes the box of its class that it overlaps most and that none before it took. Where no such box overlaps by
    the IoU, an ignored one may, by its share of the detection's own area; a detection in it is not counted.
    As pycocotools (cocoeval.py ``evaluateImg``, area range "all").
    """
    flags = np.zeros((len(ious), len(found)), dtype=np.int8)
    overlap = _overlap(found.boxes_xyxy, boxes_xyxy, ignored)
    overlap[found.class_ids[:, None] != class_ids[None, :]] = -1.0
    for row, iou in zip(flags, ious):
        free = ~ignored
        least = min(iou, 1 - 1e-10)  # as COCOeval: an exact fit passes at IoU 1
        for at in np.flatnonzero((overlap >= least).any(1)):
            candidates = np.where(free, overlap[at], -1.0)
            best = len(candidates) - 1 - int(np.argmax(candidates[::-1]))  # the last of equals, as COCOeval
            if candidates[best] >= least:
                row[at], free[best] = 1, False
            elif (overlap[at][ignored] >= least).any():
                row[at] = -1
    return flags


def iou_of(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Return the (n, m) float64 IoU of n boxes with m others."""
    return _overlap(a_xyxy, b_xyxy, np.zeros(len(b_xyxy), dtype=bool))


def _overlap(found_xyxy: np.ndarray, boxes_xyxy: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Return (n, m) float64 IoU; with an ignored box the intersection's share of the found one."""
    a, b = found_xyxy.astype(np.float64)[:, None], np.asarray(boxes_xyxy, dtype=np.float64)[None]
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0.0, None)
    inter = sides.prod(-1)
    area_a, area_b = (a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1)
    whole = np.where(ignored[None], area_a, area_a + area_b - inter)
    shares: np.ndarray = np.divide(inter, whole, out=np.zeros_like(inter), where=whole > 0)
    return shares
