"""Small clips, pictures and a fake model for tests of the runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgedet.artifact import ArtifactMeta
from edgedet.engines.fake import save_fake
from edgedet.specs import SPECS, resized
from edgedet.types import Detections, Frame, FrameResult

FPS = 10.0
SMALL_DISK_BYTES = 12 << 20  # of the fixture small_disk
SIZE_WH = (256, 192)  # halved to fit the fake model's 128 x 128 input
META = ArtifactMeta(
    replace(resized(SPECS["tf_efficientdet_d0"], (128, 128)), num_classes=2), ("person", "car"), "fp32", "0" * 64
)
# What the fake model finds, in pixels of its input, and the same in pixels of a 256 x 192 picture.
FAKE_BOXES = [(0, 0.9, [16, 8, 48, 72]), (1, 0.6, [64, 32, 96, 64])]
SOURCE_BOXES_XYXY = [[32, 16, 96, 144], [128, 64, 192, 128]]


def write_fake_model(path: Path, max_batch: int = 1) -> Path:
    """Write a model that finds FAKE_BOXES in every picture, of up to ``max_batch`` pictures at once."""
    save_fake(path, replace(META, max_batch=max_batch), FAKE_BOXES)
    return path


def picture(level: int, size_wh: tuple[int, int] = SIZE_WH) -> np.ndarray:
    """Return an evenly grey picture."""
    return np.full((size_wh[1], size_wh[0], 3), level, dtype=np.uint8)


def write_clip(path: Path, frames: int = 12, size_wh: tuple[int, int] = SIZE_WH, fps: float = FPS) -> Path:
    """Write a video whose n-th frame is grey at level 10 n; Motion JPEG for .avi, MPEG-4 for .mp4."""
    import cv2

    codec = {".avi": "MJPG", ".mp4": "mp4v"}[path.suffix]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size_wh)
    assert writer.isOpened()
    for index in range(frames):
        writer.write(picture(10 * index % 256, size_wh))
    writer.release()
    return path


def frames_of(path: Path) -> tuple[list[np.ndarray], float]:
    """Return a video's frames and its frames a second."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened(), f"{path} is not playable"
    fps = capture.get(cv2.CAP_PROP_FPS)
    frames = []
    ok, bgr = capture.read()
    while ok:
        frames.append(bgr)
        ok, bgr = capture.read()
    capture.release()
    return frames, fps


CODEC_ERROR = 5  # levels, of an evenly grey picture through MPEG-4


def result(index=0, captured_s=0.0, name="", level=100, size_wh=(256, 192)):
    """Return one frame with one detection."""
    detections = Detections(
        np.array([[1.25, 2.5, 30.0, 40.126]], np.float32), np.array([0.87654], np.float32), np.array([1])
    )
    timings_ms = {"preprocess": 0.1, "network": 20.12345, "postprocess": 0.2}
    return FrameResult(Frame(picture(level, size_wh), captured_s, index, name), detections, timings_ms)


def annotate(result):
    return result.frame.bgr
