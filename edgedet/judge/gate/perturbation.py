"""Changes of a picture that no viewer sees, to know how much of a figure is chance.

A network's outputs change a little with each of them. That is the measure for what quantisation changes: moving the
picture by one pixel changes the float model's detections as much as a good INT8 file does (docs/int8.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Tuple

import numpy as np

from ...engines.base import Engine
from ...types import Detections, ModelInput, RawOutputs

CHANGED_SHARE = 0.001  # of the pixels
MOVES_XY = ((1, 0), (0, 1), (-1, -1), (-1, 1))  # network pixels


@dataclass(frozen=True, eq=False)
class Change:
    """One grey level more or less in some pixels: their places in the flat picture, and (n, 1) steps of -1 and 1."""

    places: np.ndarray
    steps: np.ndarray

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return changed pixels, (1, H, W, 3) uint8."""
        changed = pixels.reshape(-1, 3).astype(np.int16)
        changed[self.places] += self.steps
        return np.clip(changed, 0, 255).astype(np.uint8).reshape(pixels.shape)


def draw_change(random: np.random.Generator, input_hw: Tuple[int, int]) -> Change:
    """Draw a change of one picture of (height, width)."""
    places = np.flatnonzero(random.random((1, *input_hw)) < CHANGED_SHARE)
    return Change(places, random.choice(np.array([-1, 1], np.int16), size=(len(places), 1)))


class PerturbedEngine(Engine):
    """An engine that is shown pictures changed by one grey level in one pixel of a thousand.

    A full-INT8 network rounds so often that this moves its AP by a point on a small test set; a mean over several
    changes does not move so.
    """

    def __init__(self, engine: Engine, seed: int) -> None:
        """Use ``engine``, which whoever opened it must close."""
        self._engine, self._random = engine, np.random.default_rng(seed)

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Change the (1, H, W, 3) uint8 pixels and run the engine on them."""
        height, width = pixels.shape[1:3]
        return self._engine.infer(draw_change(self._random, (height, width)).apply(pixels))

    def close(self) -> None:
        """Leave the engine to its owner."""


def move_picture(picture: ModelInput, dx: int, dy: int) -> ModelInput:
    """Move the picture's content ``dx`` network pixels to the right and ``dy`` down; border pixels are repeated."""
    height, width = picture.pixels.shape[1:3]
    rows = np.clip(np.arange(height) - dy, 0, height - 1)
    columns = np.clip(np.arange(width) - dx, 0, width - 1)
    return replace(picture, pixels=np.ascontiguousarray(picture.pixels[:, rows][:, :, columns]))


def move_boxes_back(detections: Detections, picture: ModelInput, dx: int, dy: int) -> Detections:
    """Return detections in ``move_picture(picture, dx, dy)`` with the places of their boxes in ``picture`` itself."""
    scale_xy = np.broadcast_to(np.asarray(picture.scale_to_source, dtype=np.float32), 2)  # one number, or x and y
    shift = np.tile(scale_xy * np.array([dx, dy], dtype=np.float32), 2)
    return Detections(detections.boxes_xyxy - shift, detections.scores, detections.class_ids)
