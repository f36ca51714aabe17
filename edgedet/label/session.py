"""The pictures that are being labelled and their boxes, kept in a folder: the pictures, the work, and the COCO file.

FOLDER/images/     the pictures, as PNG
FOLDER/work.json   all boxes, also those of pictures that nobody has looked at yet: a later session goes on there
FOLDER/labels.json the labels of the pictures that are done, as COCO has them: for ``--data``
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..errors import InputError
from ..files import atomic_path, parse_json, read_text
from ..judge.agreement import compute_iou
from ..judge.coco import is_gap
from ..types import Detections

WORK, LABELS, IMAGES = "work.json", "labels.json", "images"
VERSION = 1  # of WORK
MOST_BOXES = 1000  # of a picture
KEPT_SCORE = 0.3  # detections from here up are boxes, others are suggestions that the user may take over
SHOWN_SCORE = 0.1
SAME_PLACE_IOU = 0.5


@dataclass(frozen=True)
class Box:
    """One box of a picture.

    xyxy:     pixels of the picture. ``class_id``: the model's.
    score:    the model's, None for a box that the user drew.
    accepted: whether it is a label; False for a suggestion.
    """

    xyxy: Tuple[float, float, float, float]
    class_id: int
    score: Optional[float]
    accepted: bool


@dataclass(frozen=True)
class Picture:
    """One picture; ``is_done`` once the user has accepted its boxes."""

    file: str
    width: int
    height: int
    boxes: Tuple[Box, ...]
    is_done: bool = False


def boxes_from_detections(detections: Detections) -> Tuple[Box, ...]:
    """Return the model's detections as boxes to correct, best score first: one at each place, whatever its class."""
    free = np.ones(len(detections), dtype=bool)
    overlaps = compute_iou(detections.boxes_xyxy, detections.boxes_xyxy)
    boxes: List[Box] = []
    for at in np.argsort(-detections.scores, kind="stable"):
        if free[at] and len(boxes) < MOST_BOXES:
            free &= overlaps[at] < SAME_PLACE_IOU
            x1, y1, x2, y2 = detections.boxes_xyxy[at].tolist()
            score = float(detections.scores[at])
            boxes.append(Box((x1, y1, x2, y2), int(detections.class_ids[at]), round(score, 3), score >= KEPT_SCORE))
    return tuple(boxes)


class Session:
    """All pictures of a folder; every change is on the disk before ``change`` returns."""

    def __init__(self, folder: Path, class_names: Sequence[str], pictures: Sequence[Picture]) -> None:
        """Take pictures whose files are in FOLDER/images already; nothing is written yet."""
        self.folder = folder
        self.class_names = tuple(class_names)
        self.pictures: List[Picture] = list(pictures)

    @property
    def labels(self) -> Path:
        """The COCO file."""
        return self.folder / LABELS

    def count(self) -> Tuple[int, int]:
        """Return the numbers of pictures that are done, and of their boxes."""
        done = [picture for picture in self.pictures if picture.is_done]
        return len(done), sum(box.accepted for picture in done for box in picture.boxes)

    def change(self, index: int, values: Any) -> None:
        """Take a picture's boxes as the page sends them; raises InputError for anything else."""
        if not 0 <= index < len(self.pictures):
            raise InputError(f"there are {len(self.pictures)} pictures; got number {index}.")
        picture = self.pictures[index]
        boxes, is_done = _boxes_from_json(values, picture, len(self.class_names))
        self.pictures[index] = replace(picture, boxes=boxes, is_done=is_done)
        self.save()

    def save(self) -> None:
        """Write both files."""
        work = {
            "version": VERSION,
            "class_names": self.class_names,
            "pictures": [asdict(picture) for picture in self.pictures],
        }
        for name, values in ((WORK, work), (LABELS, self.coco())):
            with atomic_path(self.folder / name) as temporary:
                temporary.write_text(json.dumps(values) + "\n", encoding="utf-8")

    def coco(self) -> Dict[str, Any]:
        """Return the labels of the pictures that are done, as COCO's JSON (cocodataset.org/#format-data)."""
        done = [(number, picture) for number, picture in enumerate(self.pictures, start=1) if picture.is_done]
        annotations: List[Dict[str, Any]] = []
        for number, picture in done:
            for box in picture.boxes:
                if box.accepted:
                    x1, y1, x2, y2 = box.xyxy
                    annotations.append(
                        {
                            "id": len(annotations) + 1,
                            "image_id": number,
                            "category_id": box.class_id + 1,
                            "bbox": [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
                            "area": round((x2 - x1) * (y2 - y1), 2),
                            "iscrowd": 0,
                        }
                    )
        return {
            "info": {"description": "labelled with edgedet label"},
            "images": [
                {"id": number, "file_name": picture.file, "width": picture.width, "height": picture.height}
                for number, picture in done
            ],
            "annotations": annotations,
            "categories": [
                {"id": slot + 1, "name": name} for slot, name in enumerate(self.class_names) if not is_gap(name)
            ],
        }


def load_session(folder: Path) -> Optional[Session]:
    """Return the session that was begun in a folder, None where there is none; raises InputError for a damaged one."""
    path = folder / WORK
    if not path.exists():
        return None
    try:
        values = parse_json(read_text(path, "remove the folder, or name another one by --out"))
        names = [str(name) for name in values["class_names"]]
        pictures = []
        for picture in values["pictures"]:
            empty = Picture(str(picture["file"]), int(picture["width"]), int(picture["height"]), ())
            items = [{**box, "box": box["xyxy"], "class": box["class_id"]} for box in picture["boxes"]]
            boxes, is_done = _boxes_from_json({"boxes": items, "done": picture["is_done"]}, empty, len(names))
            pictures.append(replace(empty, boxes=boxes, is_done=is_done))
    except (ValueError, KeyError, TypeError, InputError) as error:
        raise InputError(f"{path} is damaged ({error}): remove it, or name another folder by --out.") from None
    return Session(folder, names, pictures)


def _boxes_from_json(values: Any, picture: Picture, classes: int) -> Tuple[Tuple[Box, ...], bool]:
    """Return the boxes that have an area, cut at the picture's sides, and whether the picture is done."""
    try:
        rows, is_done = values["boxes"], values["done"]
        if not isinstance(rows, list) or len(rows) > MOST_BOXES or not isinstance(is_done, bool):
            raise ValueError
        boxes = []
        for row in rows:
            corners = [float(value) for value in row["box"]]
            class_id, score, accepted = row["class"], row.get("score"), row["accepted"]
            good = isinstance(class_id, int) and 0 <= class_id < classes and isinstance(accepted, bool)
            if not good or len(corners) != 4 or not all(map(math.isfinite, corners)):
                raise ValueError
            (x1, x2), (y1, y2) = sorted(corners[::2]), sorted(corners[1::2])
            x1, x2 = (min(max(value, 0.0), float(picture.width)) for value in (x1, x2))
            y1, y2 = (min(max(value, 0.0), float(picture.height)) for value in (y1, y2))
            if x2 - x1 >= 1.0 and y2 - y1 >= 1.0:
                boxes.append(Box((x1, y1, x2, y2), class_id, None if score is None else float(score), accepted))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise InputError(
            f"the boxes of {picture.file} are no boxes: wanted box (x1, y1, x2, y2), class below {classes}, accepted."
        ) from None
    return tuple(boxes), is_done
