"""How far the detections of two models agree: COCO's matching of boxes, and F1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Set, Tuple, Union

import numpy as np

from ..errors import ShapeError
from ..types import Detections

MATCH_IOU = 0.5  # two boxes that overlap by this match
TIGHT_IOU = 0.85  # F1 at this IoU also falls where boxes move only a little


def keep_above(detections: Detections, score: float) -> Detections:
    """Return the detections whose score is at least ``score``."""
    return detections[detections.scores >= score]


def count_matches(detections: Detections, reference: Detections, iou: float = MATCH_IOU) -> Tuple[int, int, int]:
    """Return the numbers of (true positives, detections, reference boxes); a true positive overlaps by ``iou``."""
    ignored = np.zeros(len(reference), dtype=bool)
    flags = match_boxes(detections, reference.boxes_xyxy, reference.class_ids, ignored, [iou])
    return int((flags == 1).sum()), len(detections), len(reference)


def compute_f1(counts: np.ndarray) -> Optional[float]:
    """Return 2 TP / (2 TP + FP + FN) from the counts (TP, TP + FP, TP + FN); None where there is no box at all."""
    tp, detected, expected = counts
    return float(2.0 * tp / (detected + expected)) if detected + expected else None


@dataclass(frozen=True, eq=False)
class Agreement:
    """How well a model's detections agree with the reference's, over several frames.

    counts: (frames, 3) float64, for each frame: true positives at MATCH_IOU, detections, reference boxes.
    f1:     F1 at MATCH_IOU; None where there is no box at all.
    tight:  F1 at TIGHT_IOU, likewise.
    """

    counts: np.ndarray
    f1: Optional[float]
    tight: Optional[float]

    @property
    def boxes(self) -> int:
        """The number of reference boxes."""
        return int(self.counts[:, 2].sum())


def compare_detections(detections: Sequence[Detections], reference: Sequence[Detections]) -> Agreement:
    """Compare detections with the reference's frame by frame; both hold what scores at least the user's threshold.

    Raises ShapeError where the numbers of frames differ.
    """
    if len(detections) != len(reference):
        raise ShapeError(f"detections of {len(detections)} frames cannot be compared with those of {len(reference)}.")
    counts, tight = (
        np.array([count_matches(*pair, iou) for pair in zip(detections, reference)], dtype=np.float64).reshape(-1, 3)
        for iou in (MATCH_IOU, TIGHT_IOU)
    )
    return Agreement(counts, compute_f1(counts.sum(0)), compute_f1(tight.sum(0)))


def match_boxes(
    detections: Detections,
    boxes_xyxy: np.ndarray,
    class_ids: np.ndarray,
    ignored: np.ndarray,
    ious: Union[Sequence[float], np.ndarray],
) -> np.ndarray:
    """Match one picture's detections, best score first, to its boxes at each IoU threshold.

    boxes_xyxy: (m, 4), with ``class_ids`` (m,) and ``ignored`` (m,) bool.
    Returns (len(ious), n) int8 for n detections: 1 true positive, 0 false positive, -1 not counted.

    Each detection takes the box of its class that it overlaps most and that no better detection took. Where no such
    box overlaps by the threshold, the detection may lie in an ignored box: then it is not counted. Its overlap with an
    ignored box is the share of the detection's own area.
    As pycocotools (cocoeval.py ``evaluateImg``, area range "all").
    """
    flags = np.zeros((len(ious), len(detections)), dtype=np.int8)
    overlap = _compute_overlap(detections.boxes_xyxy, boxes_xyxy, ignored)
    overlap[detections.class_ids[:, None] != class_ids[None, :]] = -1.0
    thresholds = [min(iou, 1 - 1e-10) for iou in ious]  # as COCOeval: an exact fit passes at IoU 1
    candidates = _sort_candidates(np.where(ignored, -1.0, overlap), min(thresholds))
    ignored_overlap = overlap[:, ignored].max(axis=1, initial=-1.0)
    for flags_at_iou, threshold in zip(flags, thresholds):
        flags_at_iou[ignored_overlap >= threshold] = -1
        taken: Set[int] = set()
        for index, of_detection in candidates.items():
            for box, iou in of_detection:
                if iou < threshold:
                    break
                if box not in taken:
                    flags_at_iou[index] = 1
                    taken.add(box)
                    break
    return flags


def _sort_candidates(overlap: np.ndarray, threshold: float) -> Dict[int, List[Tuple[int, float]]]:
    """Return for each row of ``overlap`` (n, m) its columns from ``threshold`` up as (column, overlap), the most first.

    Of equal overlaps the last column comes first, as COCOeval has it. Rows without such a column are left out.
    """
    rows, columns = np.nonzero(overlap >= threshold)
    values = overlap[rows, columns]
    order = np.lexsort((-columns, -values, rows))
    candidates: Dict[int, List[Tuple[int, float]]] = {}
    for row, column, value in zip(rows[order].tolist(), columns[order].tolist(), values[order].tolist()):
        candidates.setdefault(row, []).append((column, value))
    return candidates


def compute_iou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Return the (n, m) float64 IoU of n boxes with m others."""
    return _compute_overlap(a_xyxy, b_xyxy, np.zeros(len(b_xyxy), dtype=bool))


def _compute_overlap(detected_xyxy: np.ndarray, boxes_xyxy: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Return (n, m) float64 IoU; for an ignored box, the share of the detected box that lies in it."""
    a = detected_xyxy.T.astype(np.float64)[:, :, None]
    b = np.asarray(boxes_xyxy, dtype=np.float64).T[:, None, :]
    low_x, low_y = np.maximum(a[:2], b[:2])
    high_x, high_y = np.minimum(a[2:], b[2:])
    inter = np.maximum(high_x - low_x, 0.0) * np.maximum(high_y - low_y, 0.0)
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    whole = np.where(ignored[None], area_a, area_a + area_b - inter)
    shares: np.ndarray = np.divide(inter, whole, out=np.zeros_like(inter), where=whole > 0)
    return shares
