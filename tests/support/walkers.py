"""Results of frames with tracks, as a run's outputs get them, without a model: what events are made of."""

from __future__ import annotations

import numpy as np

from edgedet.types import Detections, Frame, FrameResult, Track

CLASS_NAMES = ("person", "car")
PICTURE_HW = (90, 160)


def walker(id: int, x: float, y: float = 0.5, score: float = 0.8, class_id: int = 0, seen: bool = True) -> Track:
    """Return the track of an object that stands at (x, y), in shares of the picture."""
    height, width = PICTURE_HW
    foot_x, foot_y = x * width, y * height
    return Track(id, class_id, score, (foot_x - 5, foot_y - 30, foot_x + 5, foot_y), seen)


def result(tracks, time_s: float, index: int = 0, camera: str = "door") -> FrameResult:
    """Return a grey frame with these tracks; the brightness goes up with the index, 10 a frame."""
    bgr = np.full((*PICTURE_HW, 3), index * 10 % 250, np.uint8)
    return FrameResult(Frame(bgr, time_s, index, camera=camera), Detections.empty(), tracks=tuple(tracks))


def crossing(seconds: float = 3.0, fps: float = 10.0, id: int = 1, begin_s: float = 0.0, camera: str = "door"):
    """Yield the frames in which one person walks from the left edge to the right one, then is gone."""
    frames = round(seconds * fps)
    for number in range(frames):
        yield result([walker(id, 0.05 + 0.9 * number / frames)], begin_s + number / fps, number, camera)
    yield result([], begin_s + seconds, frames, camera)
