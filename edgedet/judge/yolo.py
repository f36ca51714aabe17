"""Read the labels of a YOLO folder: a text file a picture, a line a box, in shares of the picture's size.

Format: docs.ultralytics.com/datasets/detect. A line is "class x-centre y-centre width height"; class names are in
classes.txt, one a line (as LabelImg writes it), or in ``names`` of a data set's .yaml. Sizes are not in the labels, so
each picture is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ..errors import InputError, SourceError, require
from ..files import read_text
from ..stream.images import IMAGE_SUFFIXES, read_image

NAMES_FILE = "classes.txt"
_NO_LABELS = (NAMES_FILE, "readme.txt", "requirements.txt")
_HINT = "give a text file with a class and a box a line"

Row = Tuple[Any, ...]  # (x1, y1, x2, y2, class id, area, ignored), pixels of the picture


@dataclass(frozen=True)
class YoloFolder:
    """What was read.

    pictures:   path, (width, height) and rows of each labelled picture.
    names:      of the classes; class_0, class_1, ... where no file names them.
    failures:   one line for each picture or label file that cannot be used.
    unlabelled: number of pictures that have no label file.
    """

    pictures: List[Tuple[Path, Tuple[int, int], List[Row]]]
    names: Tuple[str, ...]
    failures: Tuple[str, ...]
    unlabelled: int


def find_label_folder(folder: Path) -> Optional[Path]:
    """Return the folder of the text files that belong to a folder of pictures, None where there are none.

    They are beside the pictures, in ``labels`` within the folder, or in the folder whose path has ``labels`` where that
    of the pictures has ``images``.
    """
    candidates = [folder, folder / "labels"]
    parts = list(folder.absolute().parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        candidates.append(Path(*parts[:last], "labels", *parts[last + 1 :]))
    for candidate in candidates:
        if candidate.is_dir() and any(_list_label_files(candidate)):
            return candidate
    return None


def read_yolo_folder(folder: Path, labels: Path, images: Optional[Path] = None) -> YoloFolder:
    """Read the labels in ``labels`` and the sizes of their pictures.

    folder: as the user named it; images: folder of the pictures, None: ``folder/images`` or ``folder``.
    Raises InputError where class names are none.
    """
    images = images or (folder / "images" if (folder / "images").is_dir() else folder)
    by_stem = {path.stem: path for path in sorted(images.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}
    names = _read_names(folder, labels)
    pictures, failures = [], []
    for file in _list_label_files(labels):
        if file.stem not in by_stem:
            failures.append(f"{file} has no picture in {images}")
            continue
        path = by_stem.pop(file.stem)
        try:
            h, w = read_image(path).shape[:2]
            rows = [
                _parse_line(line, (w, h), len(names)) for line in read_text(file, _HINT).splitlines() if line.strip()
            ]
        except (SourceError, InputError) as error:
            failures.append(str(error).rstrip("."))
        except ValueError as error:
            failures.append(f"{file} is no YOLO label: {error}")
        else:
            pictures.append((path, (w, h), rows))
    if not names:
        largest = max((row[4] for _, _, rows in pictures for row in rows), default=-1)
        names = tuple(f"class_{number}" for number in range(largest + 1))
    return YoloFolder(pictures, names, tuple(failures), len(by_stem))


def _list_label_files(folder: Path) -> List[Path]:
    return sorted(path for path in folder.glob("*.txt") if path.name.lower() not in _NO_LABELS)


def _parse_line(line: str, size_wh: Tuple[int, int], num_classes: int) -> Row:
    """Return a box in pixels; raises ValueError in a few words. ``num_classes`` 0: any class."""
    parts = line.split()
    if len(parts) != 5:
        raise ValueError(f"a line has {len(parts)} numbers, wanted class, x, y, width and height")
    class_id = int(parts[0])
    x, y, w, h = (float(part) for part in parts[1:])
    if class_id < 0 or (num_classes and class_id >= num_classes):
        raise ValueError(f"it has class {class_id}, but there are {num_classes} class names")
    if not all(map(math.isfinite, (x, y, w, h))) or w <= 0 or h <= 0 or max(abs(x), abs(y), w, h) > 2:
        raise ValueError(f"the box {' '.join(parts[1:])} is not in shares of the picture's size")
    x1, y1, x2, y2 = (
        (x - w / 2) * size_wh[0],
        (y - h / 2) * size_wh[1],
        (x + w / 2) * size_wh[0],
        (y + h / 2) * size_wh[1],
    )
    return (x1, y1, x2, y2, class_id, (x2 - x1) * (y2 - y1), False)


def _read_names(folder: Path, labels: Path) -> Tuple[str, ...]:
    """Return the class names of classes.txt or a .yaml in the folders or those above; () where there are none."""
    above = folder.absolute().parents
    places = [labels, folder, *above[:2]]
    for place in places:
        if (place / NAMES_FILE).is_file():
            lines = read_text(place / NAMES_FILE, "give one class name a line").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    for place in places:
        for file in sorted(place.glob("*.yaml")):
            names = _names_in_yaml(file)
            if names:
                return names
    return ()


def _names_in_yaml(file: Path) -> Tuple[str, ...]:
    yaml = require("yaml", f"reading {file}")
    try:
        values = yaml.safe_load(read_text(file, "give a data set's .yaml"))
    except yaml.YAMLError:
        return ()
    names: Any = values.get("names") if isinstance(values, dict) else None
    if isinstance(names, dict):
        numbered: Dict[int, str] = {int(key): str(name) for key, name in names.items() if str(key).isdigit()}
        names = [numbered.get(number, f"class_{number}") for number in range(max(numbered, default=-1) + 1)]
    return tuple(str(name) for name in names) if isinstance(names, list) else ()
