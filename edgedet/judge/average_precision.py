"""Average precision of a model's detections on labelled images, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import SourceError, require
from ..stream.images import read_image
from ..types import Detections
from .labels import LabelledImage

SCORE_FLOOR = 0.01  # as effdet's validation, which drops detections with lower scores
# pycocotools' twelve figures in the order of COCOeval.stats: (name, meaning)
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
    """How well detections fit the labels. Each figure lies in [0, 1]; it is None where no label is of that kind.

    figures:   by the names of FIGURES.
    per_class: AP by the model's class name.
    images:    number of images.
    boxes:     number of labelled boxes in them, without those that are ignored.
    counts:    the same by the model's class name.
    precision: (10 IoUs, 101 recalls, classes as in ``per_class``) float64; NaN for a class without a label.
    """

    figures: dict[str, float | None]
    per_class: dict[str, float | None]
    images: int
    boxes: int
    counts: dict[str, int] = field(repr=False)
    precision: np.ndarray = field(repr=False)


def detect_images(
    detect: Callable[[np.ndarray], Detections], images: Iterable[LabelledImage]
) -> tuple[list[tuple[LabelledImage, Detections]], list[str]]:
    """Run ``detect`` on each image, (H, W, 3) uint8 BGR.

    Returns each image with its detections, and a line for each image that cannot be read or has another size than its
    labels say.
    """
    detected: list[tuple[LabelledImage, Detections]] = []
    failures: list[str] = []
    for image in images:
        try:
            bgr = read_image(image.path)
            check_size(image, (bgr.shape[1], bgr.shape[0]))
        except SourceError as error:
            failures.append(str(error).rstrip("."))
            continue
        detected.append((image, detect(bgr)))
    return detected, failures


def check_size(image: LabelledImage, size_wh: tuple[int, int]) -> None:
    """Raise SourceError for a picture that was turned or resized after it was labelled.

    Its AP would be near 0 without a reason.
    """
    if image.size_wh not in (None, size_wh):
        raise SourceError(
            f"{image.path} is {size_wh[0]}x{size_wh[1]} pixels, but its labels are for "
            f"{image.size_wh[0]}x{image.size_wh[1]}"
        )


def compute_accuracy(
    detected: Sequence[tuple[LabelledImage, Detections]], class_map: Sequence[int], class_names: Sequence[str]
) -> Accuracy:
    """Return COCO's figures, as pycocotools' COCOeval gives them for boxes.

    class_map:   the model's class id for each class of the labels, -1 for labels to leave out (``match_classes``).
    class_names: the model's. Detections of classes that have no label class are left out, too.
    Ignored labels are crowds to COCOeval: detections that lie within one are not counted.
    """
    class_ids = sorted({slot for slot in class_map if slot >= 0})
    ground_truth: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for image_id, (image, detections) in enumerate(detected, start=1):
        for box_xyxy, class_id, area, ignored in zip(image.boxes_xyxy, image.class_ids, image.areas, image.ignored):
            if class_map[class_id] >= 0:
                slot = class_map[class_id]
                ground_truth.append(
                    _make_annotation(len(ground_truth), image_id, slot, box_xyxy, area, iscrowd=int(ignored))
                )
        boxes_xyxy = detections.boxes_xyxy.astype(np.float64)
        areas = np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1)
        for box_xyxy, class_id, area, score in zip(boxes_xyxy, detections.class_ids, areas, detections.scores):
            predictions.append(
                _make_annotation(
                    len(predictions), image_id, int(class_id), box_xyxy, area, iscrowd=0, score=float(score)
                )
            )
    coco_eval = _run_coco_eval(ground_truth, predictions, len(detected), class_ids)
    precision = coco_eval.eval["precision"]  # (IoU, recall, class, area range, boxes an image), -1 where undefined
    return Accuracy(
        figures={name: _none_if_undefined(value) for (name, _), value in zip(FIGURES, coco_eval.stats)},
        per_class={
            class_names[slot]: _none_if_undefined(precision[:, :, k, 0, -1].mean()) for k, slot in enumerate(class_ids)
        },
        images=len(detected),
        boxes=sum(not annotation["iscrowd"] for annotation in ground_truth),
        counts={
            class_names[slot]: sum(
                annotation["category_id"] == slot and not annotation["iscrowd"] for annotation in ground_truth
            )
            for slot in class_ids
        },
        precision=np.where(precision[..., 0, -1] < 0, np.nan, precision[..., 0, -1]),
    )


def _make_annotation(
    index: int, image_id: int, category_id: int, box_xyxy: np.ndarray, area: float, **more: float
) -> dict[str, Any]:
    x1, y1, x2, y2 = map(float, box_xyxy)
    # ids begin at 1: COCOeval takes a match with id 0 for none
    return {
        "id": index + 1,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": float(area),
        **more,
    }


def _run_coco_eval(
    ground_truth: list[dict[str, Any]], predictions: list[dict[str, Any]], images: int, class_ids: list[int]
) -> Any:
    """Run COCOeval on both lists of annotations, without what it prints, and return it."""
    coco = require("pycocotools.coco", "edgedet eval")
    cocoeval = require("pycocotools.cocoeval", "edgedet eval")
    with contextlib.redirect_stdout(io.StringIO()):
        both = []
        for annotations in (ground_truth, predictions):
            annotated = coco.COCO()
            annotated.dataset = {
                "images": [{"id": number + 1} for number in range(images)],
                "categories": [{"id": slot} for slot in class_ids],
                "annotations": annotations,
            }
            annotated.createIndex()
            both.append(annotated)
        coco_eval = cocoeval.COCOeval(*both, iouType="bbox")
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return coco_eval


def _none_if_undefined(value: float) -> float | None:
    """Return the figure; None for the -1 that COCOeval gives where there is no label."""
    return None if value < 0 else float(value)
