"""Scenes for tests of calibration frames, as pictures in a folder, and which of them were taken."""

from __future__ import annotations

import numpy as np
from media import META

from edgedet.calibration.ranges.frames import sha256_of_frame

SPEC = META.spec  # 128 x 128


def scene(number, size_wh=(160, 120)):
    """A grey picture with one bright square, which is elsewhere for each number below 48."""
    bgr = np.full((size_wh[1], size_wh[0], 3), 60, dtype=np.uint8)
    y, x = divmod(number, 8)
    bgr[20 * y : 20 * y + 20, 20 * x : 20 * x + 20] = 250
    return bgr


def write_images(folder, numbers):
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    for at, number in enumerate(numbers):
        assert cv2.imwrite(str(folder / f"{at:03}.png"), scene(number))
    return str(folder)


def hashes(sets):
    return {name: [sha256_of_frame(frame) for frame in getattr(sets, name)] for name in ("calibrate", "select", "gate")}


def everything(sets):
    return [sha for part in hashes(sets).values() for sha in part]
