"""The average precision of a model file on labelled images, and which classes it was measured without."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

from ..artifact import ArtifactMeta
from ..detector import Detector
from ..errors import SourceError
from ..postprocess import NmsRules
from ..progress import Say, with_progress
from ..types import Detections
from .average_precision import SCORE_FLOOR, Accuracy, compute_accuracy, detect_images
from .coco import is_gap
from .labels import Dataset, LabelledImage, join_names, match_classes

# images -> what ``detect_images`` returns of them
DetectAll = Callable[[Sequence[LabelledImage]], Tuple[List[Tuple[LabelledImage, Detections]], List[str]]]
_NAMED_FAILURES = 5  # at most so many are named in one line


@dataclass(frozen=True)
class Evaluation:
    """The accuracy of a model file on labelled images.

    left_out: names of classes that only the "data" or only the "model" knows.
    failures: a line for each image or label file that could not be read.
    nms:      the rules of NMS that gave the detections.
    detected: each image that was read, with the model's detections above SCORE_FLOOR.
    class_map, class_names: as of ``compute_accuracy``.
    """

    meta: ArtifactMeta
    accuracy: Accuracy
    left_out: Dict[str, List[str]]
    failures: List[str]
    nms: NmsRules
    detected: List[Tuple[LabelledImage, Detections]] = field(repr=False)
    class_map: Tuple[int, ...] = field(repr=False)
    class_names: List[str] = field(repr=False)


def evaluate(
    model: str,
    dataset: Dataset,
    threads: int,
    soft_nms: bool = False,
    say: Say = print,
    nms: Optional[Union[NmsRules, str]] = None,
    detect_all: Optional[DetectAll] = None,
) -> Evaluation:
    """Run the model on every image and return its AP as pycocotools computes it.

    soft_nms, nms: as of ``Detector``.
    detect_all: runs the model on the images elsewhere; None: here, one after the other.
    say: takes a line on classes and images that are left out, before anything is detected.
    Raises SourceError where no image could be read, and what ``Detector`` raises.
    """
    with Detector(model, threads, SCORE_FLOOR, soft_nms, nms) as detector:
        names = detector.class_names
        class_map = match_classes(dataset, names)
        left_out = find_unmatched_classes(dataset, class_map, names)
        for line in describe_left_out(left_out, dataset.unlabelled):
            say(line)
        if dataset.outside:
            say(f"{dataset.outside} labelled boxes lie outside their pictures, and count as missed: mend the labels")
        if detect_all is None:
            detections, failures = detect_images(detector, with_progress(dataset.images, "eval", "image"))
        else:
            detections, failures = detect_all(dataset.images)
        failures = [*dataset.failures, *failures]
        if not detections:
            raise SourceError(describe_failures(failures, 0))
        named = _class_names(dataset, class_map, names)
        accuracy = compute_accuracy(detections, class_map, named)
        return Evaluation(detector.meta, accuracy, left_out, failures, detector.nms, detections, class_map, named)


def _class_names(dataset: Dataset, class_map: Sequence[int], model_names: Sequence[str]) -> List[str]:
    """Return the class names by class id: the labels' where there are some, since a model may have only numbers."""
    names = list(model_names)
    for name, slot in zip(dataset.class_names, class_map):
        if slot >= 0:
            names[slot] = name
    return names


def find_unmatched_classes(
    dataset: Dataset, class_map: Sequence[int], model_names: Sequence[str]
) -> Dict[str, List[str]]:
    """Return the names of classes that only the data or only the model has, without COCO's slots of no category."""
    return {
        "data": [name for name, slot in zip(dataset.class_names, class_map) if slot < 0],
        "model": [name for slot, name in enumerate(model_names) if slot not in class_map and not is_gap(name)],
    }


def describe_left_out(left_out: Dict[str, List[str]], unlabelled: int) -> List[str]:
    """Return a line on classes and one on images that are left out, where there are any."""
    parts = []
    for side, reason in (("data", "that the model does not know"), ("model", "that the data does not have")):
        if left_out[side]:
            parts.append(f"{len(left_out[side])} of the {side} {reason} ({join_names(left_out[side])})")
    lines = [f"classes left out: {'; '.join(parts)}"] if parts else []
    return [*lines, f"images without a label file, left out: {unlabelled}"] if unlabelled else lines


def describe_failures(failures: Sequence[str], done: int) -> str:
    """Return a line with the number of images that failed, and the first reasons."""
    more = len(failures) - _NAMED_FAILURES
    rest = f"; and {more} more" if more > 0 else ""
    return f"{len(failures)} failed, {done} images done: {'; '.join(failures[:_NAMED_FAILURES])}{rest}."
