"""Match detections to labelled boxes, as COCO does, and compute AP, precision and recall from the matches.

The rules are those of pycocotools (cocoeval.py ``evaluateImg`` and ``accumulate``, area range "all"). In addition each
image can have a weight, so that a bootstrap matches and sorts the detections once and not once for each resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Detections
from .agreement import match_boxes
from .labels import LabelledImage

COCO_IOUS = np.linspace(0.5, 0.95, 10)
COCO_RECALLS = np.linspace(0.0, 1.0, 101)


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
            of_class = self.class_ids == class_id
            flags, weight = self.flags[:, of_class], weights[self.image_ids[of_class]]
            tp = np.cumsum((flags == 1) * weight, axis=1)
            recall = tp / labelled[class_id]
            precision = tp / (np.cumsum((flags >= 0) * weight, axis=1) + np.spacing(1))
            envelope = np.zeros((len(precision), precision.shape[1] + 1))  # 0 beyond the highest recall
            envelope[:, :-1] = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            positions = np.array([np.searchsorted(of_iou, COCO_RECALLS, side="left") for of_iou in recall])
            aps.extend(np.take_along_axis(envelope, positions, axis=1).mean(axis=1))
        return float(np.mean(aps)) if aps else None

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
