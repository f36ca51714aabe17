"""Check labels before a training: what is wrong with them, and a sheet of pictures with their boxes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedet.calibration.ranges.frames import thin_out
from edgedet.errors import InputError, SourceError
from edgedet.judge.labels import Dataset, LabelledImage, join_names
from edgedet.progress import count_of, with_progress
from edgedet.stream.images import read_image
from edgedet.training.augment import compute_areas
from edgedet.training.records import LINE_PX, draw_labels, shrink_to_tile, write_sheet, write_text

FEW_IMAGES, FEW_BOXES = 100, 50  # below: of the whole set, and of a class
SMALLEST_SIDE = 2.0  # pixels
SHOWN = 20  # pictures on the sheet
NAMED = 3  # files that a line names


@dataclass(frozen=True)
class Preflight:
    """The result of the check.

    problems: lines on labels that would spoil the training or its figures; it does not begin with them.
    warnings: lines on what is worth a look.
    """

    problems: list[str]
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class SheetPicture:
    """An image of the sheet, the names of its data set's classes, and what is odd about it."""

    image: LabelledImage
    class_names: Sequence[str]
    reason: str = ""


def check_labels(data: Dataset, val: Dataset, names: Sequence[str], sheet: Path | None) -> Preflight:
    """Look at all labels and all pictures of a training; draw some of them to ``sheet``, the suspicious ones first.

    Raises InputError where the pictures to learn from, or those to judge on, have not one box of the classes ``names``.
    """
    problems, warnings = [], []
    suspicious: list[SheetPicture] = []
    digests: dict[str, dict[str, str]] = {}
    for label, dataset in (("training", data), ("validation", val)):
        problems += [f"{line}" for line in dataset.failures[:NAMED]]
        odd, unreadable, digests[label] = _check_images(dataset.images, label)
        problems += unreadable
        for reason, images in odd.items():
            warnings.append(f"{label}: {count_of(len(images), 'image')} with {reason}: {_name(images)}")
            suspicious += [SheetPicture(image, dataset.class_names, reason) for image in images]
        if dataset.unlabelled:
            warnings.append(f"{label}: {count_of(dataset.unlabelled, 'image')} without a label file, not used")
    both = sorted(set(digests["training"]) & set(digests["validation"]))
    if both:
        problems.append(
            f"the validation has {count_of(len(both), 'image')} that the training has, too, so AP would be too good: "
            f"{digests['validation'][both[0]]} is {digests['training'][both[0]]}"
        )
    for dataset in (data, val):
        problems += [line for line in _find_twins(dataset.class_names) if line not in problems]
    warnings += _check_classes(data, val, names)
    if sheet is not None:
        _draw(suspicious, [SheetPicture(image, data.class_names) for image in data.images], sheet)
    return Preflight(problems, warnings)


def _check_images(
    images: Sequence[LabelledImage], label: str
) -> tuple[dict[str, list[LabelledImage]], list[str], dict[str, str]]:
    """Return the images by what is odd about their boxes, a line for each that cannot be read, and name by hash."""
    odd: dict[str, list[LabelledImage]] = {}
    problems, digests, twice = [], {}, []
    for image in with_progress(images, f"checking {label}", "image"):
        try:
            bgr = read_image(image.path)
        except SourceError as error:
            problems.append(str(error).rstrip("."))
            continue
        h, w = bgr.shape[:2]
        if image.size_wh is not None and image.size_wh != (w, h):
            labelled_w, labelled_h = image.size_wh
            turned = ", as if it had been turned (EXIF)" if image.size_wh == (h, w) and w != h else ""
            problems.append(
                f"{image.path} is {w}x{h} pixels, but its labels are for {labelled_w}x{labelled_h}{turned}: label it "
                "anew"
            )
        for reason in find_odd_boxes(image, (w, h)):
            odd.setdefault(reason, []).append(image)
        digest = hashlib.sha256(bgr.tobytes()).hexdigest()
        if digest in digests:
            twice.append(image)
        digests[digest] = image.path.name
    if twice:
        odd["the same picture under another name"] = twice
    more = len(problems) - NAMED
    return odd, problems[:NAMED] + ([f"and {more} more {label} images like these"] if more > 0 else []), digests


def find_odd_boxes(image: LabelledImage, size_wh: tuple[int, int]) -> list[str]:
    """Return what is odd about the boxes of a picture of (width, height) pixels, in a few words each."""
    if not len(image.boxes_xyxy):
        return []
    reasons = []
    boxes, (w, h) = image.boxes_xyxy, size_wh
    inside = boxes.clip(0, [w, h, w, h])
    outside = compute_areas(inside) <= 0
    sides = boxes[:, 2:] - boxes[:, :2]
    empty = (sides < SMALLEST_SIDE).any(1)
    if (outside & ~empty).any():
        reasons.append("boxes wholly outside the picture")
    elif ((boxes < -1) | (boxes > [w + 1, h + 1, w + 1, h + 1])).any():
        reasons.append("boxes that reach outside the picture")
    if empty.any():
        reasons.append(f"boxes thinner than {SMALLEST_SIDE:g} pixels")
    rows = np.hstack([boxes, image.class_ids[:, None]])
    if len(np.unique(rows, axis=0)) < len(rows):
        reasons.append("the same box twice")
    return reasons


def _check_classes(data: Dataset, val: Dataset, names: Sequence[str]) -> list[str]:
    """Return warnings on classes that are rare or missing, and on few pictures."""
    lines = []
    counts = {label: _count_boxes(dataset, names) for label, dataset in (("training", data), ("validation", val))}
    for label, use in (("training", "to learn from"), ("validation", "to judge on")):
        if not sum(counts[label].values()):
            raise InputError(f"the pictures {use} have not one box of the classes {join_names(list(names), 20)}.")
    for label, of_class in counts.items():
        missing = [name for name, count in of_class.items() if not count]
        if missing:
            lines.append(f"{label}: there is no box of {join_names(missing, 20)}")
    rare = [f"{name} ({count})" for name, count in counts["training"].items() if 0 < count < FEW_BOXES]
    if rare:
        lines.append(f"training: there are fewer than {FEW_BOXES} boxes of {join_names(rare, 10)}")
    if len(data.images) < FEW_IMAGES:
        lines.append(f"training: {len(data.images)} images are few; from {FEW_IMAGES} on results become steady")
    return lines


def _find_twins(class_names: Sequence[str]) -> list[str]:
    """Return a line for each two classes whose names are the same but for upper and lower case."""
    seen: dict[str, str] = {}
    lines = []
    for name in class_names:
        first = seen.setdefault(name.strip().lower(), name)
        if first != name:
            lines.append(f"the labels name one class both {first!r} and {name!r}: write it in one way")
    return lines


def _count_boxes(dataset: Dataset, names: Sequence[str]) -> dict[str, int]:
    """Return the number of boxes of each class, without those that are ignored."""
    slots = {name.strip().lower(): slot for slot, name in enumerate(dataset.class_names)}
    parts = [image.class_ids[~image.ignored] for image in dataset.images]
    ids = np.concatenate(parts or [np.zeros(0, np.int64)])
    return {name: int((ids == slots.get(name.strip().lower(), -1)).sum()) for name in names}


def _draw(suspicious: Sequence[SheetPicture], others: Sequence[SheetPicture], sheet: Path) -> None:
    """Draw SHOWN pictures, at most half of them suspicious, with what is odd in their upper edge."""
    named = {picture.image.path for picture in suspicious}
    rest = [picture for picture in thin_out(others, SHOWN) if picture.image.path not in named]
    tiles = []
    for picture in [*suspicious[: SHOWN // 2], *rest][:SHOWN]:
        image = picture.image
        try:
            tile, factor = shrink_to_tile(read_image(image.path))
        except SourceError:
            continue
        draw_labels(tile, image.boxes_xyxy * factor, [picture.class_names[at] for at in image.class_ids])
        if picture.reason:
            write_text(tile, picture.reason, 0, 0)
            write_text(tile, image.path.name, 0, 2 * LINE_PX)
        tiles.append(tile)
    write_sheet(tiles, sheet)


def _name(images: Sequence[LabelledImage]) -> str:
    return join_names([image.path.name for image in images], NAMED)
