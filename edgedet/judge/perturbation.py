"""Changes of a picture that no viewer sees, to know how much of a figure is chance. Knows pixels and detections.

A network answers each of them a little differently. What an INT8 network changes is judged by that measure: one pixel
aside changes what the float model detects as much as good INT8 files do (docs/int8.md).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..engines.base import Engine
from ..types import Detections, ModelInput, RawOutputs

SHARE_CHANGED = 0.001  # of the pixels
MOVES_XY = ((1, 0), (0, 1), (-1, -1), (-1, 1))  # network pixels


class Changed(Engine):
    """An engine that is shown pictures changed by one grey level in one pixel of a thousand.

    A full-INT8 network rounds so often that this moves its AP by a point on a small test set; a mean over several
    changes does not move so.
    """

    def __init__(self, engine: Engine, seed: int) -> None:
        """``engine`` stays its owner's to close."""
        self._engine, self._random = engine, np.random.default_rng(seed)

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run (1, H, W, 3) uint8 pixels, changed."""
        changed = pixels.astype(np.int16)
        where = self._random.random(pixels.shape[:3]) < SHARE_CHANGED
        changed[where] += self._random.choice(np.array([-1, 1], np.int16), size=(int(where.sum()), 1))
        return self._engine.infer(np.clip(changed, 0, 255).astype(np.uint8))

    def close(self) -> None:
        """Leave the engine to its owner."""


def moved(picture: ModelInput, dx: int, dy: int) -> ModelInput:
    """Return the picture with its content ``dx`` network pixels to the right and ``dy`` down; borders are repeated."""
    height, width = picture.pixels.shape[1:3]
    rows = np.clip(np.arange(height) - dy, 0, height - 1)
    columns = np.clip(np.arange(width) - dx, 0, width - 1)
    return replace(picture, pixels=np.ascontiguousarray(picture.pixels[:, rows][:, :, columns]))


def moved_back(detections: Detections, picture: ModelInput, dx: int, dy: int) -> Detections:
    """Return what was detected in ``moved(picture, dx, dy)``, where it is in the picture itself."""
    scale_xy = np.broadcast_to(np.asarray(picture.scale_to_source, dtype=np.float32), 2)  # one number, or x and y
    shift = np.tile(scale_xy * np.array([dx, dy], dtype=np.float32), 2)
    return Detections(detections.boxes_xyxy - shift, detections.scores, detections.class_ids)
