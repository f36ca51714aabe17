"""A model's worst mistakes on labelled images: boxes that it misses, and false alarms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np

from ..types import Detections
from .agreement import MATCH_IOU, compute_iou, match_boxes
from .labels import LabelledImage

_SHOWN_OTHERS = 3


@dataclass(frozen=True, eq=False)
class Mistake:
    """One box that is in the labels and not among the detections, or the other way round.

    path:        of the picture. ``box_xyxy``: (4,) in its pixels. ``class_id``: the model's.
    score:       of a false alarm; for a miss the highest score of a detection of its class there, 0 for none.
    others_xyxy: (n, 4), the boxes of the other side that lie there, whatever their class; of detections the best.
    other_class: the class of the first of them, None where there is none.
    other_score: its score where it is a detection.
    """

    path: Path
    box_xyxy: np.ndarray
    class_id: int
    score: float
    others_xyxy: np.ndarray
    other_class: Optional[int]
    other_score: Optional[float] = None


Detected = Sequence[Tuple[LabelledImage, Detections]]


def find_misses(detected: Detected, class_map: Sequence[int], most: int) -> List[Mistake]:
    """Return the labelled boxes to which the model gives the lowest scores, of equal ones the largest box first.

    A detection counts for a box of its class that it overlaps by MATCH_IOU. Ignored labels are left out.
    """
    misses = []
    slots = np.asarray(class_map, dtype=np.int64)
    for image, detections in detected:
        labels = slots[image.class_ids]
        overlaps = compute_iou(detections.boxes_xyxy, image.boxes_xyxy) >= MATCH_IOU
        for at in np.flatnonzero((labels >= 0) & ~image.ignored):
            there = detections[overlaps[:, at]]
            score = float(there.scores[there.class_ids == labels[at]].max(initial=0.0))
            best = there[: min(_SHOWN_OTHERS, len(there))]  # the best score comes first
            seen_as = (int(best.class_ids[0]), float(best.scores[0])) if len(best) else (None, None)
            misses.append(Mistake(image.path, image.boxes_xyxy[at], int(labels[at]), score, best.boxes_xyxy, *seen_as))
    return sorted(misses, key=lambda miss: (miss.score, -_area(miss.box_xyxy)))[:most]


def find_false_alarms(detected: Detected, class_map: Sequence[int], most: int) -> List[Mistake]:
    """Return the detections of the highest scores that no labelled box matches (``match_boxes``, at MATCH_IOU)."""
    alarms = []
    slots = np.asarray(class_map, dtype=np.int64)
    for image, detections in detected:
        detections = detections[np.isin(detections.class_ids, slots)]
        labels = slots[image.class_ids]
        flags = match_boxes(detections, image.boxes_xyxy, labels, image.ignored, [MATCH_IOU])[0]
        overlaps = compute_iou(detections.boxes_xyxy, image.boxes_xyxy)
        for at in np.flatnonzero(flags == 0):
            there = np.flatnonzero((overlaps[at] >= MATCH_IOU) & (labels >= 0))
            there = there[np.argsort(-overlaps[at, there])]
            alarms.append(
                Mistake(
                    image.path,
                    detections.boxes_xyxy[at],
                    int(detections.class_ids[at]),
                    float(detections.scores[at]),
                    image.boxes_xyxy[there],
                    int(labels[there[0]]) if len(there) else None,
                )
            )
    return sorted(alarms, key=lambda alarm: -alarm.score)[:most]


def _area(box_xyxy: np.ndarray) -> float:
    return float(np.prod(box_xyxy[2:] - box_xyxy[:2]))
