"""Match detections to labelled boxes, as COCO does, and compute AP, precision and recall from the matches.

The rules are those of pycocotools (cocoeval.py ``evaluateImg`` and ``accumulate``, area range "all"). In addition each
image can have a weight, so that a bootstrap matches and sorts the detections once and not once for each resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Dict

import numpy as np

from ..types import Detections
from .agreement import match_boxes
from .labels import LabelledImage

COCO_IOUS = np.linspace(0.5, 0.95, 10)
COCO_RECALLS = np.linspace(0.0, 1.0, 101)
_IOU_ROWS = np.arange(len(COCO_IOUS))[:, None]


@dataclass(frozen=True, eq=False)
class MatchedDetections:
    """All detections of a set of images with the result of matching them to the labels; best score first.

    image_ids: (n,) int64, position of the image in the set.
    class_ids: (n,) int64, class of the model.
    scores:    (n,) float64 in [0, 1].
    flags:     (T, n) int8 at each of the T COCO_IOUS: 1 true positive, 0 false positive, -1 not counted.
    ground_truth_counts: (images, classes) int64, number of labelled boxes that count.
    """

    image_ids: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray
    flags: np.ndarray
    ground_truth_counts: np.ndarray

    def compute_ap(self, weights: np.ndarray) -> float | None:
        """Return COCO's AP over classes and IoUs where each image counts ``weights`` times; None without labels."""
        labelled = weights @ self.ground_truth_counts
        aps = []
        for class_id in np.flatnonzero(labelled):
            of_class = self._of_class(int(class_id))
            tp = np.cumsum(of_class.hits * weights[of_class.hit_image_ids], axis=1)
            recall = tp / labelled[class_id]
            precision = tp / (of_class.count_at_hits(weights) + np.spacing(1))
            envelope = np.zeros((len(precision), precision.shape[1] + 1))  # 0 beyond the highest recall
            envelope[:, :-1] = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            positions = np.array([of_iou.searchsorted(COCO_RECALLS) for of_iou in recall])
            aps.extend(envelope[_IOU_ROWS, positions].mean(axis=1))
        return float(np.mean(aps)) if aps else None

    def _of_class(self, class_id: int) -> _ClassMatches:
        if class_id not in self._classes:
            of_class = self.class_ids == class_id
            self._classes[class_id] = _ClassMatches(self.image_ids[of_class], self.flags[:, of_class])
        return self._classes[class_id]

    @cached_property
    def _classes(self) -> Dict[int, _ClassMatches]:
        return {}

    def count_at_score(self, score: float) -> tuple[int, int]:
        """Return the numbers (true positives, true and false positives) from ``score`` up, at IoU 0.5."""
        flags = self.flags[0, self.scores >= np.float32(score)]
        return int((flags == 1).sum()), int((flags >= 0).sum())

    def find_score_for_precision(self, tp: int, positives: int) -> float | None:
        """Return the lowest score threshold whose precision at IoU 0.5 is at least tp / positives; None if none is."""
        if not positives:
            return None
        tps, counted = np.cumsum(self.flags[0] == 1), np.cumsum(self.flags[0] >= 0)
        last_of_score = np.append(self.scores[1:] != self.scores[:-1], True)[: len(self.scores)]
        good = np.flatnonzero((tps * positives >= tp * counted) & (counted > 0) & last_of_score)
        return float(self.scores[good[-1]]) if len(good) else None


class _ClassMatches:
    """One class's part of MatchedDetections, laid out so that AP with other weights takes little.

    Recall rises at true positives only, and between two of them precision only falls. So AP needs nothing but the m
    detections that are true positives at one IoU at least, the hits.

    hits:          (T, m) float64, 1 where a hit is a true positive, else 0.
    hit_image_ids: (m,) int64.
    """

    def __init__(self, image_ids: np.ndarray, flags: np.ndarray) -> None:
        """image_ids: (n,), flags: (T, n), of the class's detections, as in MatchedDetections."""
        self._image_ids = image_ids
        self._at = np.flatnonzero((flags == 1).any(axis=0))
        self._counted = (flags >= 0).astype(np.float64) if (flags < 0).any() else None
        self.hits = (flags[:, self._at] == 1).astype(np.float64)
        self.hit_image_ids = image_ids[self._at]

    def count_at_hits(self, weights: np.ndarray) -> np.ndarray:
        """Return the weighted number of detections that count, down to each hit: (T, m), or (m,) for every IoU."""
        weight = weights[self._image_ids]
        if self._counted is not None:
            weight = self._counted * weight
        counts: np.ndarray = np.cumsum(weight, axis=-1)[..., self._at]
        return counts


def match_dataset(
    images: Sequence[LabelledImage], detections: Sequence[Detections], class_map: Sequence[int]
) -> MatchedDetections:
    """Match each image's detections to its labels. Detections of classes that no label can have are left out.

    class_map: the model's class id for each class of the labels, -1 for labels to leave out (``match_classes``).
    """
    slots = np.asarray(class_map, dtype=np.int64)
    ground_truth_counts = np.zeros((len(images), int(slots.max(initial=-1)) + 1), dtype=np.int64)
    matched, flags = [], [np.zeros((len(COCO_IOUS), 0), dtype=np.int8)]
    for index, (image, of_image) in enumerate(zip(images, detections)):
        of_image = of_image[np.isin(of_image.class_ids, slots)]
        labels = slots[image.class_ids]
        np.add.at(ground_truth_counts[index], labels[(labels >= 0) & ~image.ignored], 1)
        flags.append(match_boxes(of_image, image.boxes_xyxy, labels, image.ignored, COCO_IOUS))
        matched.append(of_image)
    scores = concatenate([of_image.scores for of_image in matched]).astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    image_ids = np.repeat(np.arange(len(matched)), [len(of_image) for of_image in matched])
    class_ids = concatenate([of_image.class_ids for of_image in matched]).astype(np.int64)
    return MatchedDetections(
        image_ids[order], class_ids[order], scores[order], np.concatenate(flags, 1)[:, order], ground_truth_counts
    )


def concatenate(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Join arrays end to end; without any, return an empty float64 array, which numpy's function refuses."""
    return np.concatenate(arrays) if arrays else np.zeros(0)
