"""Change a picture by what no camera repeats, to see how much of a figure is chance. Knows pixels and engines' shape.

A full-INT8 network rounds so often that one grey level in one pixel of a thousand moves its AP by a point on a small
test set (docs/int8.md); a mean over several changes does not move so.
"""

from __future__ import annotations

import numpy as np

from ..engines.base import Engine
from ..types import RawOutputs

SHARE_CHANGED = 0.001  # of the pixels


class Changed(Engine):
    """An engine that is shown pictures changed by one grey level in one pixel of a thousand."""

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
