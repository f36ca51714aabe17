"""Draw detections into a picture."""

from __future__ import annotations

import colorsys
from typing import Sequence, Tuple

import numpy as np

from ...errors import require
from ...types import Detections

Bgr = Tuple[int, int, int]

_GOLDEN_RATIO = 0.618034  # steps of this share of the hue circle keep neighbouring class ids far apart
_TEXT_PER_SIDE = 1 / 42  # height of a label as a share of the picture's shorter side
_SMALLEST_TEXT_PX = 12  # below this OpenCV's strokes run together
_LINE_PER_TEXT = 1 / 8
_STROKE_PER_TEXT = 1 / 14
_LIGHT = 140  # a background brighter than this (0 to 255) takes black letters


def choose_colour(class_id: int) -> Bgr:
    """Return a class's colour: bright, and far from those of the neighbouring ids."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN_RATIO % 1.0, 0.85, 1.0)
    return round(blue * 255), round(green * 255), round(red * 255)


def draw(bgr: np.ndarray, detections: Detections, class_names: Sequence[str]) -> np.ndarray:
    """Return a copy of the (H, W, 3) picture with each detection: box, class, track and score, the best on top."""
    picture = bgr.copy()
    text_px = max(_SMALLEST_TEXT_PX, round(min(picture.shape[:2]) * _TEXT_PER_SIDE))
    for i in reversed(range(len(detections))):
        class_id = int(detections.class_ids[i])
        track_id = -1 if detections.track_ids is None else int(detections.track_ids[i])
        track = f" #{track_id}" if track_id >= 0 else ""
        label = f"{class_names[class_id]}{track} {detections.scores[i]:.2f}"
        _draw_detection(picture, detections.boxes_xyxy[i], label, choose_colour(class_id), text_px)
    return picture


def _draw_detection(picture: np.ndarray, box_xyxy: np.ndarray, label: str, colour: Bgr, text_px: int) -> None:
    cv2 = require("cv2", "drawing")
    line_px = max(1, round(text_px * _LINE_PER_TEXT))
    x1, y1, x2, y2 = (round(float(value)) for value in box_xyxy)
    cv2.rectangle(picture, (x1, y1), (x2, y2), colour, line_px)

    font = cv2.FONT_HERSHEY_SIMPLEX
    stroke_px = max(1, round(text_px * _STROKE_PER_TEXT))
    scale = cv2.getFontScaleFromHeight(font, text_px, stroke_px)
    (width, height), baseline = cv2.getTextSize(label, font, scale, stroke_px)
    width, height = width + 2 * line_px, height + line_px  # a margin left, right and above
    # Above the box where there is room, else inside it; never beyond the picture's sides.
    left = max(0, min(x1, picture.shape[1] - 1 - width))
    top = y1 - height - baseline
    if top < 0:
        top = max(0, min(y1, picture.shape[0] - 1 - height - baseline))
    cv2.rectangle(picture, (left, top), (left + width, top + height + baseline), colour, cv2.FILLED)
    brightness = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2]  # ITU-R BT.601 luma
    ink = (0, 0, 0) if brightness > _LIGHT else (255, 255, 255)
    cv2.putText(picture, label, (left + line_px, top + height), font, scale, ink, stroke_px, cv2.LINE_AA)
