"""Change detection on a small picture: whether a frame is worth a look, and at which places.

The background is a mixture of Gaussians a pixel (Zivkovic 2004, OpenCV's MOG2): it learns each pixel's own noise, so a
dark and noisy picture does not count as change, and what stands still becomes background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Tuple

import numpy as np

from ..errors import InputError, require
from ..types import Detections, Frame
from .regions import grow_boxes, hold_objects, overlaps

SMALL_WIDTH = 256  # pixels: a person of 40 pixels in 768 has 13 still, and MOG2 takes 1 ms
LEARN_S = 20.0  # what stays so long is background
MARGIN = 0.15  # of a changed place's size, on each side: the object is larger than what changed of it
ALL_CHANGED = 0.5  # of the picture: a light was switched, or the camera was moved
SETTLE_S = 1.0  # so long a place is looked at after it came to rest: one look may miss what stands there
_MOST_PLACES = 12  # more are a busy picture, which one look at all of it serves better


@dataclass(frozen=True)
class MotionRules:
    """When a frame is looked at.

    threshold:    squared distance from the background, in variances, from which a pixel counts as changed.
    min_area:     share of the picture that must change in one place.
    full_every_s: seconds after which the whole picture is looked at in any case.
    idle_every_s: seconds after which an object that stands still is looked at again.
    """

    threshold: float = 16.0
    min_area: float = 0.0005
    full_every_s: float = 10.0
    idle_every_s: float = 3.0

    def __post_init__(self) -> None:
        seconds = (self.full_every_s, self.idle_every_s)
        if not (self.threshold > 0 and 0 < self.min_area < 1 and min(seconds) > 0):
            raise InputError(
                "motion wants a threshold above 0, an area between 0 and 1 and seconds above 0; got "
                f"{self.threshold:g}, {self.min_area:g}, {self.full_every_s:g} and {self.idle_every_s:g}."
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


@dataclass(frozen=True, eq=False)
class Plan:
    """Where a frame is looked at.

    whole:      all of it, else at (n, 4) ``boxes_xyxy`` in pixels, which may be none.
    remembered: whether what is known of the frame before still counts; not where the camera moved or the light changed.
    """

    whole: bool
    boxes_xyxy: np.ndarray
    remembered: bool = True


_NO_BOXES = np.empty((0, 4))


class MotionGate:
    """The gate of one camera."""

    def __init__(self, rules: MotionRules, phase: float = 0.0) -> None:
        """Take how much of ``full_every_s`` has passed already, so that cameras take turns with their whole looks."""
        self._rules, self._phase = rules, phase
        self._background: Any = None
        self._small_hw = (0, 0)
        self._before_s = 0.0
        self._full_s = 0.0
        self._idle_s = 0.0
        self._moved = np.empty((0, 5))  # x1 y1 x2 y2 of places that moved lately, and when

    def plan(self, frame: Frame, remembered: Detections) -> Plan:
        """Return where to look at a frame; ``remembered`` is what is known of the one before."""
        height, width = frame.bgr.shape[:2]
        size = np.array([width, height, width, height], np.float64)
        first = self._background is None
        places, share = self._changed(frame)
        now_s = frame.captured_s
        elapsed_s, self._before_s = now_s - self._before_s, now_s
        if share > ALL_CHANGED or frame.gap or elapsed_s < 0:
            self._moved = np.empty((0, 5))
            self._full_s = self._idle_s = now_s
            if first:
                self._full_s -= self._phase * self._rules.full_every_s
            return Plan(True, _NO_BOXES, remembered=False)
        objects = remembered.boxes_xyxy.astype(np.float64)
        moving = hold_objects(grow_boxes(places * size, MARGIN, size), objects)
        self._note_moved(moving, now_s)
        if now_s - self._full_s >= self._rules.full_every_s or len(places) > _MOST_PLACES:
            self._full_s = self._idle_s = now_s
            return Plan(True, _NO_BOXES)
        boxes = self._moved[:, :4]
        if now_s - self._idle_s >= self._rules.idle_every_s:
            self._idle_s = now_s
            boxes = np.concatenate([boxes, grow_boxes(objects, MARGIN, size)])
        return Plan(False, boxes)

    def note_whole(self, captured_s: float) -> None:
        """Take note that the whole picture of a frame is looked at, since its boxes needed that."""
        self._full_s = self._idle_s = captured_s

    def _note_moved(self, moving: np.ndarray, now_s: float) -> None:
        """Keep places that came to rest for SETTLE_S; what moves on leaves its old place behind."""
        rests = (now_s - self._moved[:, 4] <= SETTLE_S) & ~overlaps(self._moved[:, :4], moving).any(axis=1)
        timed = np.column_stack([moving, np.full(len(moving), now_s)])
        self._moved = np.concatenate([self._moved[rests], timed])

    def _changed(self, frame: Frame) -> Tuple[np.ndarray, float]:
        """Return (n, 4) x1 y1 x2 y2 of the places that changed, in shares of the picture, and the changed share.

        Of the first picture all has changed.
        """
        cv2 = require("cv2", "--motion")
        height, width = frame.bgr.shape[:2]
        small_hw = (max(8, round(height * SMALL_WIDTH / width)), SMALL_WIDTH)
        grey = cv2.cvtColor(frame.bgr, cv2.COLOR_BGR2GRAY)  # first: of 1920 x 1080 pixels, 1 ms and not 6
        small = cv2.GaussianBlur(cv2.resize(grey, small_hw[::-1], interpolation=cv2.INTER_AREA), (3, 3), 0)
        if self._background is None or self._small_hw != small_hw:
            self._learn_anew(small)
            return np.empty((0, 4)), 1.0
        elapsed_s = max(0.0, frame.captured_s - self._before_s)
        mask = self._background.apply(small, learningRate=min(0.5, elapsed_s / LEARN_S))
        share = float(np.count_nonzero(mask)) / mask.size
        if share > ALL_CHANGED:
            self._learn_anew(small)
        if share < self._rules.min_area:
            return np.empty((0, 4)), share
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
