"""Pictures without labels, labelled by a bigger model: frames of a clip, and what the teacher detects in them.

The scores of the teacher are those of the labels (``loss.compute_focal_loss``), so an unsure detection asks for an
unsure one. Frames are written as PNG, so that a training that goes on finds the same ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.ranges.frames import take_calibration_frames, thin_out
from edgedet.detector import Detector
from edgedet.errors import InputError
from edgedet.export.checkpoints.checkpoint import Checkpoint, network_from_checkpoint
from edgedet.files import atomic_path, parse_json, write_json
from edgedet.judge.labels import LabelledImage, join_names
from edgedet.progress import Say, with_progress
from edgedet.specs import DetectorSpec
from edgedet.stream.images import read_image
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


def take_frames(how: Distillation, spec: DetectorSpec, folder: Path, say: Say) -> None:
    """Write frames of the source to ``folder``, in the size that a teacher of this spec wants.

    They are those that calibration would take: spread over the source, none twice, none blank. Where they are there
    already, nothing is read: a camera would show other ones.
    Raises SourceError or InputError for a source that cannot be read or shows nothing.
    """
    settings_path = folder / "frames.json"
    settings = {**asdict(how), "input_hw": list(spec.input_hw)}
    if settings_path.is_file() and parse_json(settings_path.read_text(encoding="utf-8")) == settings:
        say(f"{folder} holds the frames of {how.source} already")
        return
    for path in (settings_path, *folder.glob("frame_*.png")):
        path.unlink(missing_ok=True)
    frames = take_calibration_frames(how.source, spec, how.frames)
    taken = [*frames.calibrate, *frames.select, *frames.gate]  # more than asked for, as the gate may want more
    for number, frame in enumerate(thin_out(taken, how.frames)):
        h, w = _filled_hw(frame.pixels[0], frame.source_hw, frame.scale_to_source)
        _write_png(frame.pixels[0, :h, :w], folder / f"frame_{number:04d}.png")
    write_json(str(settings_path), settings)


def label_frames(
    teacher: Checkpoint, how: Distillation, class_names: tuple[str, ...], folder: Path, say: Say
) -> list[LabelledPicture]:
    """Return the frames that ``take_frames`` wrote to ``folder``, with what the teacher detects as labels.

    Raises InputError where the teacher has none of the classes, or detects nothing.
    """
    slots = {name.strip().lower(): slot for slot, name in enumerate(class_names)}
    class_map = np.array([slots.get(name.strip().lower(), -1) for name in teacher.class_names])
    if class_map.max() < 0:
        raise InputError(
            f"the teacher's classes ({join_names(teacher.class_names)}) and those to learn "
            f"({join_names(class_names)}) have nothing in common."
        )
    meta = ArtifactMeta(teacher.spec, teacher.class_names, "fp32", teacher.sha256)
    detector = Detector((meta, ModuleEngine(FromPixels(network_from_checkpoint(teacher)))), score=how.score)
    paths = sorted(folder.glob("frame_*.png"))
    pictures = [
        _make_labels(path, detector(bgr), class_map, (bgr.shape[1], bgr.shape[0]))
        for path, bgr in zip(paths, map(read_image, with_progress(paths, "the teacher labels", "frame")), strict=True)
    ]
    boxes = sum(len(picture.class_ids) for picture in pictures)
    if not boxes:
        raise InputError(
            f"the teacher detects nothing in {len(paths)} frames of {how.source}: is it the scene it knows?"
        )
    say(f"{len(paths)} frames of {how.source} with {boxes} labels of the teacher")
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
