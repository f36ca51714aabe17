"""A detector behind the gate: looks where something changed, and remembers what stands still."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Callable, Dict, Tuple

import numpy as np

from ..types import Detections, Frame, FrameResult
from .gate import MotionGate, MotionRules, Square

_AT_EDGE_PX = 2.0  # a box that ends there is cut by the square
_SAME = 0.5  # of a cut box's area: it is part of a remembered one

Detect = Callable[[Frame], FrameResult]
Look = Callable[[Frame, Square], Detections]


class GatedDetector:
    """Gives every frame a result, with one look of the detector or none. Frames of a camera come in order."""

    def __init__(self, look: Look, rules: MotionRules, input_px: int) -> None:
        """Take what looks into a square of a frame, and the longer side of the model's input in pixels."""
        self._look, self._rules, self._input_px = look, rules, input_px
        self._gates: Dict[str, MotionGate] = {}
        self._remembered: Dict[str, Detections] = {}
        self._lock = threading.Lock()
        self.looks: Counter[str] = Counter()  # "none", "square" and "whole"

    def detect(self, frame: Frame) -> FrameResult:
        """Return what is in a frame: seen now where something changed, remembered elsewhere."""
        began = time.perf_counter()
        camera = frame.camera
        with self._lock:
            gate = self._gates.setdefault(camera, MotionGate(self._rules, self._input_px))
        square = gate.look(frame)
        motion_ms = {"motion": (time.perf_counter() - began) * 1e3}
        before = self._remembered.get(camera, Detections.empty())
        height, width = frame.bgr.shape[:2]
        if square is None:
            self.looks["none"] += 1
            return FrameResult(frame, before, motion_ms)
        detections = self._look(frame, square)
        if square == (0, 0, width, height):
            self.looks["whole"] += 1
        else:
            self.looks["square"] += 1
            detections = merge_detections(before, detections, square, (width, height))
        self._remembered[camera] = detections
        looked_ms = (time.perf_counter() - began) * 1e3 - motion_ms["motion"]
        return FrameResult(frame, detections, {**motion_ms, "look": looked_ms})


def merge_detections(before: Detections, seen: Detections, square: Square, picture_wh: Tuple[int, int]) -> Detections:
    """Return what is known after a look into a square of the picture, best score first.

    Of what was known, boxes outside of the square and boxes that its edge cuts stay. Of what was seen, boxes that the
    edge cuts are left out where they are part of one that stays.
    """
    inside = _is_inside(before.boxes_xyxy, square, picture_wh)
    stays = before[~inside]
    cut = ~_is_inside(seen.boxes_xyxy, square, picture_wh)
    if len(stays) and cut.any():
        x1y1 = np.maximum(seen.boxes_xyxy[:, None, :2], stays.boxes_xyxy[None, :, :2])
        x2y2 = np.minimum(seen.boxes_xyxy[:, None, 2:], stays.boxes_xyxy[None, :, 2:])
        overlap = np.prod(np.clip(x2y2 - x1y1, 0, None), axis=2)
        area = np.prod(seen.boxes_xyxy[:, 2:] - seen.boxes_xyxy[:, :2], axis=1)
        part = (overlap > _SAME * np.maximum(area, 1e-6)[:, None]).any(axis=1)
        seen = seen[~(cut & part)]
    both = Detections(
        np.concatenate([stays.boxes_xyxy, seen.boxes_xyxy]),
        np.concatenate([stays.scores, seen.scores]),
        np.concatenate([stays.class_ids, seen.class_ids]),
    )
    return both[np.argsort(-both.scores, kind="stable")]


def _is_inside(boxes_xyxy: np.ndarray, square: Square, picture_wh: Tuple[int, int]) -> np.ndarray:
    """Return (n,) whether each box lies in the square and is not cut by its edge; the picture's own edge cuts none."""
    x1, y1, x2, y2 = square
    width, height = picture_wh
    least = np.array([x1 + _AT_EDGE_PX if x1 > 0 else -np.inf, y1 + _AT_EDGE_PX if y1 > 0 else -np.inf])
    most = np.array([x2 - _AT_EDGE_PX if x2 < width else np.inf, y2 - _AT_EDGE_PX if y2 < height else np.inf])
    within = np.concatenate([boxes_xyxy[:, :2] >= least, boxes_xyxy[:, 2:] <= most], axis=1)
    return np.asarray(within.all(axis=1))


def make_look(detect: Detect) -> Look:
    """Return what looks into a square of a frame by a detector: boxes in pixels of the whole frame."""

    def look(frame: Frame, square: Square) -> Detections:
        x1, y1, x2, y2 = square
        cut = np.ascontiguousarray(frame.bgr[y1:y2, x1:x2])
        return _moved(detect(replace(frame, bgr=cut)).detections, x1, y1)

    return look


def _moved(detections: Detections, x: int, y: int) -> Detections:
    return replace(detections, boxes_xyxy=detections.boxes_xyxy + np.array([x, y, x, y], np.float32))
