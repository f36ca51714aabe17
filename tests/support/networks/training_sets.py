"""A tiny detector and pictures that it can learn from: bright squares and discs on noise."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from edgedet.export.checkpoints.checkpoint import Checkpoint, save_checkpoint
from edgedet.specs import DetectorSpec
from edgedet.training.start import make_fresh_network

CLASSES = ("square", "disc")
TINY = DetectorSpec(
    "tiny", "lite0", (128, 128), 2, 8, 1, 1, fusion="sum", activation="relu6", anchor_scale=3.0, fill_rgb=(128,) * 3
)


def picture(random: np.random.Generator, size_hw=(96, 128)) -> tuple[np.ndarray, list, list]:
    """Return a picture with one object, its box x, y, w, h, and its class."""
    bgr = random.integers(0, 80, (*size_hw, 3), dtype=np.uint8)
    side = int(random.integers(28, 60))
    y, x = int(random.integers(0, size_hw[0] - side)), int(random.integers(0, size_hw[1] - side))
    kind = int(random.integers(2))
    if kind == 0:
        cv2.rectangle(bgr, (x, y), (x + side, y + side), (60, 220, 240), -1)
    else:
        cv2.circle(bgr, (x + side // 2, y + side // 2), side // 2, (240, 120, 60), -1)
    return bgr, [x, y, side, side], [kind]


def write_coco(folder: Path, name: str, count: int, seed: int) -> Path:
    """Write ``count`` pictures and their COCO file; return its path."""
    random = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        bgr, box, (kind,) = picture(random)
        file = f"{number:03d}.png"
        cv2.imwrite(str(folder / name / file), bgr)
        images.append({"id": number, "file_name": file, "width": bgr.shape[1], "height": bgr.shape[0]})
        annotations.append(
            {"id": number + 1, "image_id": number, "category_id": kind + 1, "bbox": box, "area": box[2] * box[3]}
        )
    categories = [{"id": slot + 1, "name": label} for slot, label in enumerate(CLASSES)]
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def tiny_checkpoint(path: Path, classes: tuple[str, ...] = CLASSES) -> Path:
    """Write the tiny detector with random weights in edgedet's own format; return the path."""
    import torch

    torch.manual_seed(0)
    state = {key: value for key, value in make_fresh_network(TINY).state_dict().items() if "num_batches" not in key}
    save_checkpoint(Checkpoint(state, TINY, classes, "0" * 64), path)
    return path
