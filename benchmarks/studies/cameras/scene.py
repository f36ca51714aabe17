"""What the cameras of the study show: stretches of a clip, and between them its background with a camera's noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

NOISE = 2.0  # standard deviation of a level, as a USB camera has in daylight
_NOISE_PICTURES = 16


@dataclass(frozen=True, eq=False)
class Scene:
    """Pictures by their number: (H, W, 3) uint8 BGR, at a rate; it begins anew after the last one.

    script: for each number, the position in ``pictures``; noise pictures come after the clip's.
    """

    pictures: list[np.ndarray]
    script: list[int]
    fps: float

    def __len__(self) -> int:
        return len(self.script)

    def picture(self, number: int) -> np.ndarray:
        """Return a picture; numbers go on after the last one."""
        return self.pictures[self.script[number % len(self.script)]]


def read_clip(clip: Path, fps: float) -> tuple[list[np.ndarray], float]:
    """Return every n-th picture of a clip, so that there are about ``fps`` a second, and how many there are."""
    capture = cv2.VideoCapture(str(clip))
    rate = capture.get(cv2.CAP_PROP_FPS) or 10.0
    step = max(1, round(rate / fps))
    pictures = []
    for index in range(10**6):
        ok, bgr = capture.read()
        if not ok:
            break
        if index % step == 0:
            pictures.append(bgr)
    return pictures, rate / step


def make_scene(clip: Path, fps: float, busy_s: float, quiet_s: float) -> Scene:
    """Return the whole clip in stretches of ``busy_s``, each followed by ``quiet_s`` without anything."""
    pictures, fps = read_clip(clip, fps)
    background = np.median(np.stack(pictures[:: max(1, len(pictures) // 30)]), axis=0)
    rng = np.random.default_rng(0)
    noise = [
        np.clip(background + rng.normal(0, NOISE, (*background.shape[:2], 1)), 0, 255).astype(np.uint8)
        for _ in range(_NOISE_PICTURES if quiet_s else 0)
    ]
    busy, quiet = max(1, round(busy_s * fps)), round(quiet_s * fps)
    script: list[int] = []
    for start in range(0, len(pictures), busy):
        script += range(start, min(start + busy, len(pictures)))
        script += [len(pictures) + int(rng.integers(_NOISE_PICTURES)) for _ in range(quiet)]
    return Scene(pictures + noise, script, fps)
