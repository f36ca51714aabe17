"""Pictures without labels, labelled by a bigger model: frames of a clip, and what the teacher detects in them.

The scores of the teacher are those of the labels (``loss.compute_focal_loss``), so an unsure detection asks for an
unsure one. Frames are written as PNG, so that a training that goes on finds the same ones.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.ranges.frames import take_calibration_frames
from edgedet.detector import Detector
from edgedet.errors import InputError
from edgedet.export.checkpoints.checkpoint import Checkpoint, network_from_checkpoint
from edgedet.files import atomic_path
from edgedet.judge.labels import LabelledImage, join_names
from edgedet.progress import Say, with_progress
from edgedet.training.fit import FromPixels
from edgedet.training.samples import LabelledPicture
from edgedet.training.validate import ModuleEngine
from edgedet.types import Detections

LEAST_SCORE = 0.3  # of a pseudo-label; what the teacher is less sure of counts as background
FRAMES = 300


@dataclass(frozen=True)
class Distillation:
    """Which teacher labels which frames.

    source: video, folder of images or camera; frames: number of them to take.
    score:  least score of a detection that becomes a label.
    """

    source: str
    frames: int = FRAMES
    score: float = LEAST_SCORE


def label_frames(
    teacher: Checkpoint, how: Distillation, class_names: tuple[str, ...], folder: Path, say: Say
) -> list[LabelledPicture]:
    """Write frames of the source to ``folder``, and return them with what the teacher detects as labels.

    Frames are those that calibration would take: spread over the source, none twice, none blank.
    Raises InputError where the teacher has none of the classes, or detects nothing.
    """
    slots = {name.strip().lower(): slot for slot, name in enumerate(class_names)}
    class_map = np.array([slots.get(name.strip().lower(), -1) for name in teacher.class_names])
    if class_map.max() < 0:
        raise InputError(
            f"the teacher's classes ({join_names(teacher.class_names)}) and those to learn "
            f"({join_names(class_names)}) have nothing in common."
        )
    frames = take_calibration_frames(how.source, teacher.spec, how.frames)
    taken = [*frames.calibrate, *frames.select, *frames.gate]  # more than asked for, as the gate may want more
    taken = [taken[at] for at in np.linspace(0, len(taken) - 1, min(how.frames, len(taken))).round().astype(int)]
    meta = ArtifactMeta(teacher.spec, teacher.class_names, "fp32", teacher.sha256)
    detector = Detector((meta, ModuleEngine(FromPixels(network_from_checkpoint(teacher)))), score=how.score)
    pictures = []
    for number, frame in enumerate(with_progress(taken, "the teacher labels", "frame")):
        h, w = _filled_hw(frame.pixels[0], frame.source_hw, frame.scale_to_source)
        bgr = frame.pixels[0, :h, :w]
        path = folder / f"frame_{number:04d}.png"
        _write_png(bgr, path)
        pictures.append(_make_labels(path, detector(bgr), class_map, (w, h)))
    boxes = sum(len(picture.class_ids) for picture in pictures)
    if not boxes:
        raise InputError(
            f"the teacher detects nothing in {len(taken)} frames of {frames.source}: is it the scene it knows?"
        )
    with atomic_path(folder / "teacher.json") as temporary:
        temporary.write_text(json.dumps({"teacher_sha256": teacher.sha256, **asdict(how)}) + "\n", encoding="utf-8")
    say(f"{len(taken)} frames of {frames.source} with {boxes} labels of the teacher")
    return pictures


def _filled_hw(pixels: np.ndarray, source_hw: tuple[int, int], scale_to_source: object) -> tuple[int, int]:
    """Return how many rows and columns of the teacher's input the picture fills."""
    scale_xy = np.broadcast_to(np.asarray(scale_to_source, dtype=float), 2)
    h, w = (int(side / scale) for side, scale in zip(source_hw, scale_xy[::-1], strict=True))
    return min(max(h, 1), pixels.shape[0]), min(max(w, 1), pixels.shape[1])


def _make_labels(
    path: Path, detections: Detections, class_map: np.ndarray, size_wh: tuple[int, int]
) -> LabelledPicture:
    slots = class_map[detections.class_ids] if len(detections) else np.zeros(0, np.int64)
    kept = slots >= 0
    boxes = detections.boxes_xyxy[kept].astype(np.float64)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    image = LabelledImage(path, size_wh, boxes, slots[kept], areas, np.zeros(int(kept.sum()), bool))
    return LabelledPicture(image, slots[kept], detections.scores[kept].astype(np.float32))


def _write_png(bgr: np.ndarray, path: Path) -> None:
    import cv2

    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), bgr)
