"""The average precision of a model file on labelled images, and which classes it was measured without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Union

from ..artifact import ArtifactMeta
from ..detector import Detector
from ..errors import SourceError
from ..postprocess import NmsRules
from ..progress import with_progress
from .average_precision import SCORE_FLOOR, Accuracy, average_precision, detect_images
from .coco import is_gap
from .labels import Dataset, listed, match_classes

_NAMED_FAILURES = 5  # in one line


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    left_out: names of classes that only the "data" or only the "model" knows.
    failures: a line for each image or label file that could not be read.
    nms:      the rules by which outputs became detections.
    """

    meta: ArtifactMeta
    accuracy: Accuracy
    left_out: Dict[str, List[str]]
    failures: List[str]
    nms: NmsRules


def evaluate(
    model: str,
    dataset: Dataset,
    threads: int,
    soft_nms: bool = False,
    note: Callable[[str], None] = print,
    nms: Optional[Union[NmsRules, str]] = None,
) -> Evaluation:
    """Detect on every image and return AP as pycocotools counts it.

    soft_nms, nms: as of ``Detector``.
    note: takes a line on classes and images that are left out, before anything is detected.
    Raises SourceError where no image could be read, and what ``Detector`` raises.
    """
    with Detector(model, threads, SCORE_FLOOR, soft_nms, nms) as detector:
        names = detector.class_names
        class_map = match_classes(dataset, names)
        left_out = classes_left_out(dataset, class_map, names)
        for line in left_out_lines(left_out, dataset.unlabelled):
            note(line)
        if dataset.outside:
            note(f"{dataset.outside} labelled boxes lie outside their pictures, and count as missed: mend the labels")
        detections, failures = detect_images(detector, with_progress(dataset.images, "eval", "image"))
        failures = [*dataset.failures, *failures]
        if not detections:
            raise SourceError(failure_line(failures, 0))
        accuracy = average_precision(detections, class_map, _class_names(dataset, class_map, names))
        return Evaluation(detector.meta, accuracy, left_out, failures, detector.nms)


def _class_names(dataset: Dataset, class_map: Sequence[int], model_names: Sequence[str]) -> List[str]:
    """Return the names by class id; the data's where it has one, since a model may have numbers only."""
    names = list(model_names)
    for name, slot in zip(dataset.class_names, class_map):
        if slot >= 0:
            names[slot] = name
    return names


def classes_left_out(dataset: Dataset, class_map: Sequence[int], model_names: Sequence[str]) -> Dict[str, List[str]]:
    """Return the names that only the data or only the model has; slots of COCO without a category do not count."""
    return {
        "data": [name for name, slot in zip(dataset.class_names, class_map) if slot < 0],
        "model": [name for slot, name in enumerate(model_names) if slot not in class_map and not is_gap(name)],
    }


def left_out_lines(left_out: Dict[str, List[str]], unlabelled: int) -> List[str]:
    """Return a line on classes and one on images that are left out, where there are any."""
    parts = []
    for side, reason in (("data", "that the model does not know"), ("model", "that the data does not have")):
        if left_out[side]:
            parts.append(f"{len(left_out[side])} of the {side} {reason} ({listed(left_out[side])})")
    lines = [f"classes left out: {'; '.join(parts)}"] if parts else []
    return [*lines, f"images without a label file, left out: {unlabelled}"] if unlabelled else lines


def failure_line(failures: Sequence[str], done: int) -> str:
    """Return how many images failed, with the first reasons."""
    more = len(failures) - _NAMED_FAILURES
    rest = f"; and {more} more" if more > 0 else ""
    return f"{len(failures)} failed, {done} images done: {'; '.join(failures[:_NAMED_FAILURES])}{rest}."
