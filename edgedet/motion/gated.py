"""A detector behind the gate: looks where something changed, and remembers what stands still."""

from __future__ import annotations

import time
from collections import Counter
from typing import Dict, List, Sequence, Tuple

import numpy as np

from ..types import Detections, Frame, FrameResult
from .gate import MotionGate, MotionRules
from .packing import FrameBox, Look, Part, Square, has_room, pack_boxes, share_inputs, whole_of
from .regions import join_near, overlaps

_AT_EDGE_PX = 2.0  # a box that ends there is cut by the square
_SAME = 0.5  # of a cut box's area: it is part of a remembered one
_LARGE = 0.8  # of the picture's longer side
_TINY_PX = 32  # of the model's input: the network may miss an object of this height, as COCO's small ones
_PHASE = 0.618  # of a camera after another: no two near each other, whatever number of cameras there are


class GatedDetector:
    """Gives every frame a result, with a share of a look of the detector, one look or none.

    Frames of a camera come in order. Called by one thread at a time.
    """

    def __init__(self, look: Look, rules: MotionRules, input_px: int) -> None:
        """Take what looks at parts of frames, and the side of the model's input in pixels."""
        self._look, self._rules, self._input_px = look, rules, input_px
        self._gates: Dict[str, MotionGate] = {}
        self._remembered: Dict[str, Detections] = {}
        self._planned: Dict[Tuple[str, int], Tuple[List[FrameBox], bool, float]] = {}
        self._waiting: List[FrameBox] = []  # of the planned looks
        self.looks: Counter[str] = Counter()  # frames by "none", "square" and "whole", and "runs" of the detector

    def detect(self, frame: Frame) -> FrameResult:
        """Return what is in a frame: seen now where something changed, remembered elsewhere."""
        self.add(frame)
        return self.detect_batch([frame])[0]

    def add(self, frame: Frame) -> bool:
        """Plan the looks at a frame; return whether they fill an input, with those that were planned before."""
        began = time.perf_counter()
        gate = self._gates.get(frame.camera)
        if gate is None:
            gate = self._gates[frame.camera] = MotionGate(self._rules, len(self._gates) * _PHASE % 1.0)
        plan = gate.plan(frame, self._remembered.get(frame.camera, Detections.empty()))
        boxes: List[FrameBox] = [(frame, box) for box in join_near(plan.boxes_xyxy, self._input_px / 3)]
        whole = plan.whole
        if not whole and (any(_is_large(box, frame) for _, box in boxes) or not pack_boxes(boxes, self._input_px)):
            whole = bool(boxes)
        if whole and not plan.whole:
            gate.note_whole(frame.captured_s)
        boxes = [] if whole else boxes
        if not plan.remembered:
            self._remembered.pop(frame.camera, None)
        self._planned[frame.camera, frame.index] = (boxes, whole, time.perf_counter() - began)
        self._waiting += boxes
        return whole or not has_room(self._waiting, self._input_px)

    def detect_batch(self, frames: Sequence[Frame]) -> List[FrameResult]:
        """Return what is in each of the frames that were added since the last call, in their order."""
        began = time.perf_counter()
        plans = [self._planned.pop((frame.camera, frame.index)) for frame in frames]
        boxes, self._waiting = self._waiting, []
        for places, whole, _ in plans:
            self.looks["whole" if whole else "square" if places else "none"] += 1
        inputs = [
            [Part(frame, whole_of(frame), (0, 0, self._input_px))]
            for frame, (_, whole, _) in zip(frames, plans)
            if whole
        ]
        inputs += share_inputs(boxes, self._input_px)
        known = {id(frame): self._remembered.get(frame.camera, Detections.empty()) for frame in frames}
        for parts in inputs:
            self.looks["runs"] += 1
            for part, seen in zip(parts, self._look(parts)):
                height, width = part.frame.bgr.shape[:2]
                before = known[id(part.frame)]
                after = merge_detections(before, seen, part.square, (width, height))
                if part.square == whole_of(part.frame):
                    after = _with_tiny(after, before, _TINY_PX * max(height, width) / self._input_px)
                known[id(part.frame)] = after
        for frame in frames:
            self._remembered[frame.camera] = known[id(frame)]
        look_ms = (time.perf_counter() - began) * 1e3
        return [
            FrameResult(
                frame,
                known[id(frame)],
                {"motion": gate_s * 1e3, **({"look": look_ms} if whole or places else {})},
            )
            for frame, (places, whole, gate_s) in zip(frames, plans)
        ]


def _is_large(box_xyxy: np.ndarray, frame: Frame) -> bool:
    """Return whether a look at the whole picture serves a box as well as one at a square around it."""
    return bool((box_xyxy[2:] - box_xyxy[:2]).max() >= _LARGE * max(frame.bgr.shape[:2]))


def _with_tiny(after: Detections, before: Detections, tiny_px: float) -> Detections:
    """Return what a look at the whole picture shows, and what was known that is too small to be seen in such a look.

    Looks at regions confirm it or not, as soon as it moves or as an object that stands still.
    """
    tiny = before[before.boxes_xyxy[:, 3] - before.boxes_xyxy[:, 1] < tiny_px]
    seen = np.asarray(overlaps(tiny.boxes_xyxy, after.boxes_xyxy).any(axis=1))
    return _joined(after, tiny[~seen])


def _joined(some: Detections, others: Detections) -> Detections:
    both = Detections(
        np.concatenate([some.boxes_xyxy, others.boxes_xyxy]),
        np.concatenate([some.scores, others.scores]),
        np.concatenate([some.class_ids, others.class_ids]),
    )
    return both[np.argsort(-both.scores, kind="stable")]


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
    return _joined(stays, seen)


def _is_inside(boxes_xyxy: np.ndarray, square: Square, picture_wh: Tuple[int, int]) -> np.ndarray:
    """Return (n,) whether each box lies in the square and is not cut by its edge; the picture's own edge cuts none."""
    x1, y1, x2, y2 = square
    width, height = picture_wh
    least = np.array([x1 + _AT_EDGE_PX if x1 > 0 else -np.inf, y1 + _AT_EDGE_PX if y1 > 0 else -np.inf])
    most = np.array([x2 - _AT_EDGE_PX if x2 < width else np.inf, y2 - _AT_EDGE_PX if y2 < height else np.inf])
    within = np.concatenate([boxes_xyxy[:, :2] >= least, boxes_xyxy[:, 2:] <= most], axis=1)
    return np.asarray(within.all(axis=1))
