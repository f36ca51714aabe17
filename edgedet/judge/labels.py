"""Read the labels of pictures: a COCO JSON file, a folder of Pascal VOC or of YOLO.

COCO: cocodataset.org/#format-data. Pascal VOC: the devkit's XML, a file a picture; boxes as written (no minus 1).
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import parse_json
from ..stream.images import IMAGE_SUFFIXES
from .yolo import find_label_folder, read_yolo_folder

_PROBED_IMAGES = 50  # of the images, so many are looked for in each folder that may hold them


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One picture and the boxes that it is labelled with.

    path:       of the picture; the file may be missing.
    size_wh:    (width, height) in pixels of the picture that was labelled; None where the labels do not say.
    boxes_xyxy: (n, 4) float64 x1 y1 x2 y2, pixels of the picture.
    class_ids:  (n,) int64, index into ``Dataset.class_names``.
    areas:      (n,) float64, square pixels: of the outline where the labels have one, else of the box.
    ignored:    (n,) bool: COCO's crowds, VOC's difficult objects; a detection of one is not counted.
    """

    path: Path
    size_wh: tuple[int, int] | None
    boxes_xyxy: np.ndarray
    class_ids: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled pictures in the order of their files.

    class_names: of the labels, not of a model; ``match_classes`` relates the two.
    label_ids:   COCO's category id of each class; () for VOC and YOLO.
    failures:    one line for each label file that cannot be used.
    unlabelled:  number of pictures that have no label file.
    outside:     number of boxes that lie wholly outside their picture: no detection can match them.
    """

    images: tuple[LabelledImage, ...]
    class_names: tuple[str, ...]
    label_ids: tuple[int, ...] = ()
    failures: tuple[str, ...] = ()
    unlabelled: int = 0
    outside: int = 0


def read_dataset(path: Path, images: Path | None = None) -> Dataset:
    """Read a COCO JSON file, a Pascal VOC folder with XML beside the images or in Annotations, or a YOLO folder.

    images: folder of the pictures; None where it is where the format's convention puts it.
    Raises InputError where there is no labelled image or no box, and where the file is no COCO file.
    """
    if images is not None and not images.is_dir():
        raise InputError(f"there is no folder of images {images}.")
    yolo = find_label_folder(path) if path.is_dir() else None
    if yolo is not None and not _has_voc(path):
        dataset = _read_yolo(path, yolo, images)
    elif path.is_dir():
        dataset = _read_voc(path, images)
    elif path.is_file():
        dataset = _read_coco(path, images)
    else:
        raise InputError(
            f"there is no {path}: wanted a COCO JSON file, or a folder of Pascal VOC XML or YOLO text files."
        )
    if not dataset.images:
        reason = f" ({dataset.failures[0]})" if dataset.failures else ""
        raise InputError(f"{path} holds no labelled image{reason}.")
    if not any(len(image.class_ids) for image in dataset.images):
        raise InputError(f"{path} holds {len(dataset.images)} images, but not one labelled box.")
    return replace(dataset, outside=sum(map(_count_outside, dataset.images)))


def _count_outside(image: LabelledImage) -> int:
    """Return the number of boxes that have no pixel of the picture, as far as its size is known."""
    x1, y1, x2, y2 = image.boxes_xyxy.T
    w, h = image.size_wh or (math.inf, math.inf)
    return int(((x2 <= 0) | (y2 <= 0) | (x1 >= w) | (y1 >= h)).sum())


def match_classes(dataset: Dataset, model_names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the model's class id for each class of the data, -1 where the model has no such class.

    Classes match by name, in upper or lower case. A model whose classes are named only class_0, class_1, ... matches
    by COCO's category id, which is the class slot plus 1 (so 90 slots serve COCO's 80 categories).
    Raises InputError where no class matches.
    """
    slots = {name.strip().lower(): slot for slot, name in reversed(list(enumerate(model_names)))}
    class_map = tuple(slots.get(name.strip().lower(), -1) for name in dataset.class_names)
    are_numbered = all(name == f"class_{slot}" for slot, name in enumerate(model_names))
    if max(class_map) < 0 and are_numbered and dataset.label_ids:
        class_map = tuple(label - 1 if 0 < label <= len(model_names) else -1 for label in dataset.label_ids)
    if max(class_map) < 0:
        raise InputError(
            f"the model's classes ({join_names(model_names)}) and the data's ({join_names(dataset.class_names)}) have "
            "nothing in common: export the model with --names FILE, one of the data's names a line."
        )
    return class_map


def join_names(names: tuple[str, ...] | list[str], most: int = 5) -> str:
    """Return the first ``most`` names with commas between them, and the number of the others."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _make_image(path: Path, size_wh: tuple[int, int] | None, rows: list[tuple[Any, ...]]) -> LabelledImage:
    """Return the image with its labels; each row is (x1, y1, x2, y2, class id, area, ignored)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return LabelledImage(
        path, size_wh, table[:, :4], table[:, 4].astype(np.int64), table[:, 5], table[:, 6].astype(bool)
    )


# --- COCO -------------------------------------------------------------------------------------------------------


def _read_coco(path: Path, folder: Path | None) -> Dataset:
    try:
        values = parse_json(path.read_text(encoding="utf-8-sig"))
        infos, annotations, categories = (values[key] for key in ("images", "annotations", "categories"))
        names = {int(category["id"]): str(category["name"]) for category in categories}
        files = {info["id"]: str(info["file_name"]) for info in infos}
        sizes = {info["id"]: _parse_size(info.get("width"), info.get("height")) for info in infos}
        rows: dict[Any, list[tuple[Any, ...]]] = {info["id"]: [] for info in infos}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path} is no COCO file, which is JSON with images, annotations and categories ({_explain(error)})."
        ) from None
    if len(files) != len(infos):
        raise InputError(f"{path} is damaged: {len(infos) - len(files)} images have the id of another image.")
    classes = {category: index for index, category in enumerate(names)}
    for number, annotation in enumerate(annotations):
        try:
            image_id, row = _parse_annotation(annotation, classes)
            rows[image_id].append(row)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise InputError(f"{path} is damaged: annotation number {number + 1}: {_explain(error)}.") from None
    folder = folder or _find_image_folder(path, list(files.values()))
    images = tuple(_make_image(folder / name, sizes[key], rows[key]) for key, name in files.items())
    return Dataset(images, tuple(names.values()), tuple(names))


def _parse_annotation(annotation: Any, classes: dict[int, int]) -> tuple[Any, tuple[Any, ...]]:
    x, y, w, h = (float(value) for value in annotation["bbox"])
    if not all(map(math.isfinite, (x, y, w, h))) or w < 0 or h < 0:
        raise ValueError(f"bbox {annotation['bbox']} is no x, y, width, height")
    category = classes[annotation["category_id"]]
    area = float(annotation.get("area", w * h))
    return annotation["image_id"], (x, y, x + w, y + h, category, area, bool(annotation.get("iscrowd", 0)))


def _find_image_folder(path: Path, names: list[str]) -> Path:
    """Return the folder that holds the images: that of the JSON, or one that conventions name after it."""
    split = path.stem.replace("instances_", "", 1)
    candidates = [path.parent / split, path.parent / "images", path.parent]
    candidates += [path.parent.parent / split, path.parent.parent / "images" / split, path.parent.parent / "images"]
    counts = [sum((folder / name).is_file() for name in names[:_PROBED_IMAGES]) for folder in candidates]
    if names and not max(counts):
        raise InputError(
            f"the image {names[0]} of {path} is neither beside it nor in {candidates[0]}: name the folder by --images."
        )
    return candidates[counts.index(max(counts))]


def _parse_size(width: Any, height: Any) -> tuple[int, int] | None:
    return (int(width), int(height)) if width and height else None


def _explain(error: Exception) -> str:
    return f"{error} is missing or unknown" if isinstance(error, KeyError) else str(error)


# --- YOLO -------------------------------------------------------------------------------------------------------


def _read_yolo(path: Path, labels: Path, folder: Path | None) -> Dataset:
    read = read_yolo_folder(path, labels, folder)
    images = tuple(_make_image(picture, size_wh, rows) for picture, size_wh, rows in read.pictures)
    return Dataset(images, read.names, failures=read.failures, unlabelled=read.unlabelled)


# --- Pascal VOC -------------------------------------------------------------------------------------------------


def _has_voc(path: Path) -> bool:
    return (path / "Annotations").is_dir() or any(path.glob("*.xml"))


def _read_voc(path: Path, folder: Path | None) -> Dataset:
    labels = path / "Annotations" if (path / "Annotations").is_dir() else path
    if folder is None:
        folder = path / "JPEGImages" if (path / "JPEGImages").is_dir() else path
    files = _list_files(labels, (".xml",))
    if not files:
        raise InputError(
            f"there are no labels in {labels}: wanted Pascal VOC XML beside the images or in Annotations, or YOLO "
            "text files."
        )
    pictures = {file.name: file for file in _list_files(folder, IMAGE_SUFFIXES)}
    by_stem = {file.stem: file for file in pictures.values()}
    parsed, failures = [], []
    for file in files:
        try:
            filename, size_wh, objects = _parse_voc_file(file)
            picture = by_stem.get(file.stem) or pictures.get(filename) or folder / (filename or f"{file.stem}.jpg")
            parsed.append((picture, size_wh, objects))
        except OSError as error:
            failures.append(f"{file} cannot be read: {error.strerror or error}")
        except (ElementTree.ParseError, ValueError, OverflowError) as error:
            failures.append(f"{file} is no Pascal VOC label: {error}")
    names = tuple(sorted({name for _, _, objects in parsed for name, _ in objects}))
    classes = {name: index for index, name in enumerate(names)}
    images = tuple(
        _make_image(picture, size_wh, [_make_voc_row(classes[name], box, hard) for name, (box, hard) in objects])
        for picture, size_wh, objects in parsed
    )
    unlabelled = len(set(pictures.values()) - {image.path for image in images})
    return Dataset(images, names, failures=tuple(failures), unlabelled=max(0, unlabelled - len(failures)))


def _list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes)
    except OSError as error:
        raise InputError(f"folder {folder} cannot be read: {error.strerror or error}.") from None


def _make_voc_row(class_id: int, box: tuple[float, ...], difficult: bool) -> tuple[Any, ...]:
    x1, y1, x2, y2 = box
    return (x1, y1, x2, y2, class_id, (x2 - x1) * (y2 - y1), difficult)


def _parse_voc_file(file: Path) -> tuple[str, tuple[int, int] | None, list[tuple[str, tuple[tuple[float, ...], bool]]]]:
    """Return the picture's file name, its size, and (class name, (box, difficult)) of each object.

    Raises ValueError in a few words where the XML is not what the devkit writes.
    """
    root = ElementTree.parse(file).getroot()
    if root.tag != "annotation":
        raise ValueError(f"it begins with <{root.tag}>, wanted <annotation>")
    size_wh = _parse_size(*(int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height")))
    objects = []
    for number, item in enumerate(root.findall("object"), start=1):
        name = (item.findtext("name") or "").strip()
        texts = [item.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        if not name or None in texts:
            raise ValueError(f"object {number} lacks its name or its bndbox")
        box = tuple(float(text or "nan") for text in texts)
        if not (all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]):
            raise ValueError(f"object {number} ({name}) has the box {', '.join(map(str, texts))}, which holds nothing")
        objects.append((name, (box, (item.findtext("difficult") or "0").strip() == "1")))
    # a Windows path may stand where the name should
    filename = (root.findtext("filename") or "").strip().replace("\\", "/").rsplit("/", 1)[-1]
    return filename, size_wh, objects
