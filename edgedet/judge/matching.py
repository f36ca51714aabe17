"""Detections against boxes of truth, as COCO matches and counts them. Knows labels and boxes; no model, no verdict.

As pycocotools (cocoeval.py ``evaluateImg`` and ``accumulate``, area range "all"), but with a weight an image, so that a
bootstrap sorts detections once and not once a resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Detections
from .agreement import match
from .labels import LabelledImage

COCO_IOUS = np.linspace(0.5, 0.95, 10)
COCO_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, eq=False)
class Judged:
    """All detections of a set of images, matched to the labels; best score first.

    image_ids: (n,) position of the image.
    class_ids: (n,) the model's.
    scores:    (n,) float64.
    flags:     (T, n) int8, at each of COCO_IOUS: 1 right, 0 wrong, -1 not counted.
    truths:    (images, classes) number of labelled boxes that count.
    """

    image_ids: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray
    flags: np.ndarray
    truths: np.ndarray

    @staticmethod
    def of(images: Sequence[LabelledImage], found: Sequence[Detections], class_map: Sequence[int]) -> Judged:
        """Match each image's detections; those of classes without a label class are left out."""
        slots = np.asarray(class_map, dtype=np.int64)
        truths = np.zeros((len(images), int(slots.max(initial=-1)) + 1), dtype=np.int64)
        kept, flags = [], [np.zeros((len(COCO_IOUS), 0), dtype=np.int8)]
        for at, (image, detections) in enumerate(zip(images, found)):
            detections = detections[np.isin(detections.class_ids, slots)]
            labels = slots[image.class_ids]
            np.add.at(truths[at], labels[(labels >= 0) & ~image.ignored], 1)
            flags.append(match(detections, image.boxes_xyxy, labels, image.ignored, COCO_IOUS))
            kept.append(detections)
        scores = joined([one.scores for one in kept]).astype(np.float64)
        order = np.argsort(-scores, kind="stable")
        image_ids = np.repeat(np.arange(len(kept)), [len(one) for one in kept])
        class_ids = joined([one.class_ids for one in kept]).astype(np.int64)
        return Judged(image_ids[order], class_ids[order], scores[order], np.concatenate(flags, 1)[:, order], truths)

    def average_precision(self, weights: np.ndarray) -> float | None:
        """Return COCO's AP over classes and IoUs where each image counts ``weights`` times; None without labels."""
        labelled = weights @ self.truths
        per_class = []
        for slot in np.flatnonzero(labelled):
            there = self.class_ids == slot
            flags, weight = self.flags[:, there], weights[self.image_ids[there]]
            right = np.cumsum((flags == 1) * weight, axis=1)
            recall = right / labelled[slot]
            precision = right / (np.cumsum((flags >= 0) * weight, axis=1) + np.spacing(1))
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            for row_recall, row_precision in zip(recall, precision):
                at = np.searchsorted(row_recall, COCO_RECALLS, side="left")
                per_class.append(np.append(row_precision, 0.0)[at].mean())
        return float(np.mean(per_class)) if per_class else None

    def at_score(self, score: float) -> tuple[int, int]:
        """Return the numbers (right, right or wrong) of detections from ``score`` up, at IoU 0.5."""
        flags = self.flags[0, self.scores >= np.float32(score)]
        return int((flags == 1).sum()), int((flags >= 0).sum())

    def score_of_precision(self, right: int, found: int) -> float | None:
        """Return the lowest threshold at which the precision at IoU 0.5 is at least right / found; None if none is."""
        if not found:
            return None
        rights, founds = np.cumsum(self.flags[0] == 1), np.cumsum(self.flags[0] >= 0)
        last_of_score = np.append(self.scores[1:] != self.scores[:-1], True)[: len(self.scores)]
        good = np.flatnonzero((rights * found >= right * founds) & (founds > 0) & last_of_score)
        return float(self.scores[good[-1]]) if len(good) else None


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate; no array gives an empty one."""
    return np.concatenate(arrays) if arrays else np.zeros(0)
