"""Change detection on a small picture: whether a frame is worth a look, and which square of it.

The background is a mixture of Gaussians a pixel (Zivkovic 2004, OpenCV's MOG2): it learns each pixel's own noise, so a
dark and noisy picture does not count as change, and what stands still becomes background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Tuple

import numpy as np

from ..errors import InputError, require
from ..types import Frame

Square = Tuple[int, int, int, int]  # x1 y1 x2 y2 in pixels of the frame

SMALL_WIDTH = 256  # pixels: a person of 40 pixels in 768 has 13 still, and MOG2 takes 1 ms
LEARN_S = 20.0  # what stays so long is background
MARGIN = 0.25  # of a changed place's size, on each side: the object is larger than what changed of it
ALL_CHANGED = 0.5  # of the picture: a light was switched, or the camera was moved
_FULL = 0.8  # of the longer side: a larger square is no better than the whole picture


@dataclass(frozen=True)
class MotionRules:
    """When a frame is looked at.

    threshold:    squared distance from the background, in variances, from which a pixel counts as changed.
    min_area:     share of the picture that must change in one place.
    full_every_s: seconds after which the whole picture is looked at in any case, and what stands still is confirmed.
    """

    threshold: float = 16.0
    min_area: float = 0.0005
    full_every_s: float = 10.0

    def __post_init__(self) -> None:
        if not (self.threshold > 0 and 0 < self.min_area < 1 and self.full_every_s > 0):
            raise InputError(
                "motion wants a threshold above 0, an area between 0 and 1 and seconds above 0; got "
                f"{self.threshold:g}, {self.min_area:g} and {self.full_every_s:g}."
            )


def parse_rules(text: str) -> MotionRules:
    """Return the rules of "THRESHOLD,AREA" or "THRESHOLD,AREA,SECONDS", as `edgedet calibrate-motion` prints them."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3):
        raise InputError(f"--motion wants THRESHOLD,AREA, as 16,0.0005; got {text!r}.")
    return MotionRules(*numbers)


class MotionGate:
    """The gate of one camera."""

    def __init__(self, rules: MotionRules, input_px: int) -> None:
        """Take the longer side of the model's input, below which no square is looked at."""
        self._rules, self._input_px = rules, input_px
        self._background: Any = None
        self._small_hw = (0, 0)
        self._before_s = 0.0
        self._full_s = 0.0
        self._settling: Optional[Square] = None  # the last look's square, while something moved there

    def look(self, frame: Frame) -> Optional[Square]:
        """Return the square to look at, the whole picture included; None where nothing changed."""
        height, width = frame.bgr.shape[:2]
        whole = (0, 0, width, height)
        places, share = self._changed(frame)
        elapsed_s = frame.captured_s - self._before_s
        self._before_s = frame.captured_s
        if share > ALL_CHANGED or frame.gap or elapsed_s < 0:
            self._full_s, self._settling = frame.captured_s, None
            return whole
        if frame.captured_s - self._full_s >= self._rules.full_every_s:
            self._full_s = frame.captured_s
            return whole
        if len(places) == 0:
            square, self._settling = self._settling, None  # once more where it came to rest
            return square
        square = self._square_around(places, (height, width))
        if square == whole:
            self._full_s = frame.captured_s
        self._settling = square
        return square

    def _changed(self, frame: Frame) -> Tuple[np.ndarray, float]:
        """Return (n, 4) x1 y1 x2 y2 of the places that changed, in shares of the picture, and the changed share.

        Of the first picture all has changed.
        """
        cv2 = require("cv2", "--motion")
        height, width = frame.bgr.shape[:2]
        small_hw = (max(8, round(height * SMALL_WIDTH / width)), SMALL_WIDTH)
        small = cv2.resize(frame.bgr, small_hw[::-1], interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (3, 3), 0)
        if self._background is None or self._small_hw != small_hw:
            self._learn_anew(small)
            return np.empty((0, 4)), 1.0
        elapsed_s = max(0.0, frame.captured_s - self._before_s)
        mask = self._background.apply(small, learningRate=min(0.5, elapsed_s / LEARN_S))
        share = float(np.count_nonzero(mask)) / mask.size
        if share > ALL_CHANGED:
            self._learn_anew(small)
        joined = cv2.dilate(mask, np.ones((5, 5), np.uint8))  # a coat of one colour changes at its edges only
        count, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
        changed = np.bincount(labels[mask > 0], minlength=count)
        kept = [i for i in range(1, count) if changed[i] >= self._rules.min_area * mask.size]
        x, y, w, h = (stats[kept, column] for column in range(4))
        scale = np.array([small_hw[1], small_hw[0], small_hw[1], small_hw[0]], np.float64)
        return np.stack([x, y, x + w, y + h], axis=1) / scale, share

    def _learn_anew(self, small: np.ndarray) -> None:
        """Take a small grey picture for the background."""
        self._background = require("cv2", "--motion").createBackgroundSubtractorMOG2(
            history=500, varThreshold=self._rules.threshold, detectShadows=False
        )
        self._background.apply(small, learningRate=1.0)
        self._small_hw = (small.shape[0], small.shape[1])

    def _square_around(self, places: np.ndarray, picture_hw: Tuple[int, int]) -> Square:
        """Return the smallest square, of the model's size or more, that holds all places; or the whole picture."""
        height, width = picture_hw
        size = np.array([width, height, width, height], np.float64)
        boxes = places * size
        grown = (boxes[:, 2:] - boxes[:, :2]) * MARGIN
        x1, y1 = (boxes[:, :2] - grown).min(axis=0)
        x2, y2 = (boxes[:, 2:] + grown).max(axis=0)
        side = max(self._input_px, float(x2 - x1), float(y2 - y1))
        if side >= _FULL * max(width, height):
            return 0, 0, width, height
        left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
        left, top = min(max(left, 0.0), max(width - side, 0.0)), min(max(top, 0.0), max(height - side, 0.0))
        return round(left), round(top), min(width, round(left + side)), min(height, round(top + side))
