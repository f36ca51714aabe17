"""Average precision of what a model finds, by pycocotools. Knows labels and boxes; knows no file and no engine."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import SourceError, require
from ..stream.sources import read_image
from ..types import Detections
from .labels import LabelledImage

SCORE_FLOOR = 0.01  # effdet's validation keeps what scores more
# pycocotools' twelve, in the order of COCOeval.stats: (name, what it says)
FIGURES = (
    ("AP", "mean over IoU 0.50 to 0.95"),
    ("AP50", "at IoU 0.50"),
    ("AP75", "at IoU 0.75"),
    ("APs", "small: below 32 x 32 pixels"),
    ("APm", "medium"),
    ("APl", "large: above 96 x 96 pixels"),
    ("AR1", "recall with 1 box an image"),
    ("AR10", "recall with 10 boxes an image"),
    ("AR100", "recall with 100 boxes an image"),
    ("ARs", "recall, small"),
    ("ARm", "recall, medium"),
    ("ARl", "recall, large"),
)


@dataclass(frozen=True, eq=False)
class Accuracy:
    """How well detections fit labels; each figure in [0, 1], None where no label is of that kind.

    figures:   by the names of FIGURES.
    per_class: AP by the model's class name.
    images:    number that was judged.
    boxes:     number of labelled boxes in them; those that are ignored are not counted.
    """

    figures: dict[str, float | None]
    per_class: dict[str, float | None]
    images: int
    boxes: int


def detect_images(
    detect: Callable[[np.ndarray], Detections], images: Iterable[LabelledImage]
) -> tuple[list[tuple[LabelledImage, Detections]], list[str]]:
    """Return each image with what ``detect`` found in its (H, W, 3) uint8 BGR picture, and one line a failed image."""
    done: list[tuple[LabelledImage, Detections]] = []
    failures: list[str] = []
    for image in images:
        try:
            bgr = read_image(image.path)
            _check_size(image, (bgr.shape[1], bgr.shape[0]))
        except SourceError as error:
            failures.append(str(error).rstrip("."))
            continue
        done.append((image, detect(bgr)))
    return done, failures


def _check_size(image: LabelledImage, size_wh: tuple[int, int]) -> None:
    """Refuse a picture that was turned or resized after it was labelled: its AP would be near 0 without a reason."""
    if image.size_wh not in (None, size_wh):
        raise SourceError(
            f"{image.path} is {size_wh[0]}x{size_wh[1]} pixels, but its labels are for "
            f"{image.size_wh[0]}x{image.size_wh[1]}"
        )


def average_precision(
    found: Sequence[tuple[LabelledImage, Detections]], class_map: Sequence[int], class_names: Sequence[str]
) -> Accuracy:
    """Return COCO's figures, as pycocotools' COCOeval gives them for boxes.

    class_map:   the model's class id for each class of the labels, -1 for labels to leave out (``match_classes``).
    class_names: the model's. What it finds of classes that have no label class is left out too.
    Ignored labels are crowds to COCOeval: whatever lies within one is neither right nor wrong.
    """
    judged = sorted({slot for slot in class_map if slot >= 0})
    truths: list[dict[str, Any]] = []
    guesses: list[dict[str, Any]] = []
    for image_id, (image, detections) in enumerate(found, start=1):
        for box_xyxy, class_id, area, ignored in zip(image.boxes_xyxy, image.class_ids, image.areas, image.ignored):
            if class_map[class_id] >= 0:
                truths.append(_entry(len(truths), image_id, class_map[class_id], box_xyxy, area, iscrowd=int(ignored)))
        boxes_xyxy = detections.boxes_xyxy.astype(np.float64)
        areas = np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1)
        for box_xyxy, class_id, area, score in zip(boxes_xyxy, detections.class_ids, areas, detections.scores):
            guesses.append(_entry(len(guesses), image_id, int(class_id), box_xyxy, area, iscrowd=0, score=float(score)))
    coco_eval = _evaluate(truths, guesses, len(found), judged)
    precision = coco_eval.eval["precision"]  # (IoU, recall, class, area range, boxes an image), -1 where undefined
    return Accuracy(
        figures={name: _known(value) for (name, _), value in zip(FIGURES, coco_eval.stats)},
        per_class={class_names[slot]: _known(precision[:, :, k, 0, -1].mean()) for k, slot in enumerate(judged)},
        images=len(found),
        boxes=sum(not truth["iscrowd"] for truth in truths),
    )


def _entry(
    index: int, image_id: int, category_id: int, box_xyxy: np.ndarray, area: float, **more: float
) -> dict[str, Any]:
    x1, y1, x2, y2 = map(float, box_xyxy)
    # ids begin at 1: COCOeval takes a match with id 0 for none
    return {
        "id": index + 1, "image_id": image_id, "category_id": category_id, "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": float(area), **more,
    }  # fmt: skip


def _evaluate(truths: list[dict[str, Any]], guesses: list[dict[str, Any]], images: int, judged: list[int]) -> Any:
    """Run COCOeval, without what it prints."""
    coco = require("pycocotools.coco", "edgedet eval")
    cocoeval = require("pycocotools.cocoeval", "edgedet eval")
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for entries in (truths, guesses):
            side = coco.COCO()
            side.dataset = {
                "images": [{"id": number + 1} for number in range(images)],
                "categories": [{"id": slot} for slot in judged],
                "annotations": entries,
            }
            side.createIndex()
            sides.append(side)
        coco_eval = cocoeval.COCOeval(*sides, iouType="bbox")
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return coco_eval


def _known(value: float) -> float | None:
    """COCOeval says -1 where there is no label to find."""
    return None if value < 0 else float(value)
