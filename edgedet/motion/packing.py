"""Which parts of which frames share one input of the model, and how their detections get back into the frames.

Each part is a square around a box. In the input it has a cell, which shows it at full resolution, or reduced where it
is large, but never smaller than in a look at the whole picture. Where few parts share an input, they show more around.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np

from ..errors import require
from ..types import Detections, Frame, FrameResult

Square = Tuple[int, int, int, int]  # x1 y1 x2 y2 in pixels of the frame
Detect = Callable[[Frame], FrameResult]
FrameBox = Tuple[Frame, np.ndarray]  # a frame, and x1 y1 x2 y2 in its pixels

_LEAST_CELLS = (1.0, 1 / 2, 1 / 3)  # of the input's side: nine parts at most, as far as measured (docs/motion.md)
_FREE = 128  # grey of what no part covers


@dataclass(frozen=True, eq=False)
class Part:
    """A square of a frame, or all of it, and its cell in the input: left, top and side in pixels."""

    frame: Frame
    square: Square
    cell: Tuple[int, int, int]


Look = Callable[[Sequence[Part]], List[Detections]]  # of parts that share an input, each in pixels of its frame


def whole_of(frame: Frame) -> Square:
    """Return the square that is the whole picture."""
    return 0, 0, frame.bgr.shape[1], frame.bgr.shape[0]


def pack_boxes(boxes: Sequence[FrameBox], input_px: int) -> Optional[List[Part]]:
    """Return the parts around boxes in one input, with the largest least cells that fit; None where none do."""
    for share in _LEAST_CELLS:
        least = int(input_px * share)
        corners = _place([_cell_px(box, frame, least, input_px) for frame, box in boxes], input_px)
        if corners is not None:
            return [
                Part(
                    frame,
                    _square_around(box, least / max(1.0, _whole_scale(frame, input_px)), frame),
                    (*corner, _cell_px(box, frame, least, input_px)),
                )
                for (frame, box), corner in zip(boxes, corners)
            ]
    return None


def has_room(boxes: Sequence[FrameBox], input_px: int) -> bool:
    """Return whether one more part of the least size fits into the input of these boxes."""
    least = int(input_px * _LEAST_CELLS[-1])
    sizes = [_cell_px(box, frame, least, input_px) for frame, box in boxes]
    return _place([*sizes, least], input_px) is not None


def share_inputs(boxes: Sequence[FrameBox], input_px: int) -> List[List[Part]]:
    """Return the parts of each input, in the order of the boxes; a box that fits into none alone is not accepted."""
    inputs: List[List[Part]] = []
    group: List[FrameBox] = []
    for box in boxes:
        if group and pack_boxes([*group, box], input_px) is None:
            inputs.append(pack_boxes(group, input_px) or [])
            group = []
        group.append(box)
    if group:
        inputs.append(pack_boxes(group, input_px) or [])
    return inputs


def _cell_px(box_xyxy: np.ndarray, frame: Frame, least: int, input_px: int) -> int:
    """Return the side of a box's cell: the square's own pixels, or fewer, as many as in a look at the whole picture."""
    side = float((box_xyxy[2:] - box_xyxy[:2]).max())
    return int(min(input_px, max(least, math.ceil(side * _whole_scale(frame, input_px)))))


def _whole_scale(frame: Frame, input_px: int) -> float:
    """Return how large a look at the whole picture shows a pixel of it."""
    return float(input_px / max(frame.bgr.shape[:2]))


def _place(sizes: Sequence[int], input_px: int) -> Optional[List[Tuple[int, int]]]:
    """Return left and top of squares in a square, in rows of falling height (first fit); None where they do not fit."""
    rows: List[List[int]] = []  # top, and how far it is taken
    corners: List[Tuple[int, int]] = [(0, 0)] * len(sizes)
    below = 0
    for at in sorted(range(len(sizes)), key=lambda at: -sizes[at]):
        size = sizes[at]
        row = next((row for row in rows if row[1] + size <= input_px), None)
        if row is None:
            if below + size > input_px or size > input_px:
                return None
            row = [below, 0]
            rows.append(row)
            below += size
        corners[at] = (row[1], row[0])
        row[1] += size
    return corners


def _square_around(box_xyxy: np.ndarray, least_px: float, frame: Frame) -> Square:
    """Return a square around a box, of ``least_px`` or more, inside of the picture where it fits there."""
    height, width = frame.bgr.shape[:2]
    x1, y1, x2, y2 = box_xyxy.tolist()
    side = max(least_px, x2 - x1, y2 - y1)
    left = min(max((x1 + x2 - side) / 2, 0.0), max(width - side, 0.0))
    top = min(max((y1 + y2 - side) / 2, 0.0), max(height - side, 0.0))
    return round(left), round(top), min(width, round(left + side)), min(height, round(top + side))


def make_look(detect: Detect, input_px: int) -> Look:
    """Return what looks at parts by a detector whose input has ``input_px`` pixels a side: one run for each call."""

    def look(parts: Sequence[Part]) -> List[Detections]:
        if len(parts) == 1:
            x1, y1, x2, y2 = parts[0].square
            cut = np.ascontiguousarray(parts[0].frame.bgr[y1:y2, x1:x2])
            return [_placed(detect(replace(parts[0].frame, bgr=cut)).detections, (x1, y1), 1.0)]
        cv2 = require("cv2", "--motion")
        canvas = np.full((input_px, input_px, 3), _FREE, np.uint8)
        scales = []
        for part in parts:
            (x1, y1, x2, y2), (left, top, side) = part.square, part.cell
            scale = side / max(x2 - x1, y2 - y1)
            wh = (max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale)))
            into = canvas[top : top + wh[1], left : left + wh[0]]
            cv2.resize(part.frame.bgr[y1:y2, x1:x2], wh, dst=into, interpolation=cv2.INTER_AREA)
            scales.append(scale)
        seen = detect(replace(parts[0].frame, bgr=canvas)).detections
        centres = (seen.boxes_xyxy[:, :2] + seen.boxes_xyxy[:, 2:]) / 2
        by_part = []
        for part, scale in zip(parts, scales):
            (x1, y1, x2, y2), (left, top, side) = part.square, part.cell
            mine = seen[((centres >= (left, top)) & (centres < (left + side, top + side))).all(axis=1)]
            moved = _placed(mine, (x1 - left / scale, y1 - top / scale), scale)
            limits = np.array([x1, y1, x1, y1], np.float32), np.array([x2, y2, x2, y2], np.float32)
            by_part.append(replace(moved, boxes_xyxy=np.clip(moved.boxes_xyxy, *limits)))
        return by_part

    return look


def _placed(detections: Detections, origin_xy: Tuple[float, float], scale: float) -> Detections:
    """Return detections in pixels of the frame: divided by the scale, and moved."""
    boxes_xyxy = detections.boxes_xyxy / np.float32(scale) + np.array([*origin_xy, *origin_xy], np.float32)
    return replace(detections, boxes_xyxy=boxes_xyxy.astype(np.float32))
