"""A street as a camera sees it, with noise, and somebody who walks: what the motion gate is tested with."""

from __future__ import annotations

import numpy as np

from edgedet.types import Detections, Frame

WH = (1280, 720)
INPUT_PX = 320


def scene(seed=0, frames=60, noise=3.0, fps=10.0):
    """Yield (index, time, picture) of a street without people: a fixed pattern, and a camera's noise."""
    rng = np.random.default_rng(seed)
    background = np.kron(rng.integers(60, 200, (18, 32)), np.ones((40, 40))).astype(np.int16)
    grains = rng.normal(0, noise, (4, WH[1] + 64, WH[0] + 64)).round().astype(np.int16)
    for index in range(frames):
        y, x = rng.integers(0, 64, 2)
        grain = grains[index % 4, y : y + WH[1], x : x + WH[0]]
        grey = np.clip(background + grain, 0, 255).astype(np.uint8)
        yield index, index / fps, np.repeat(grey[..., None], 3, axis=2)


def frames_of(pictures, draw=lambda index, picture: None):
    for index, time_s, picture in pictures:
        draw(index, picture)
        yield Frame(picture, time_s, index)


def person(index, picture, begin=20, end=40):
    """Draw somebody of 40 x 100 pixels who walks to the right."""
    if begin <= index < end:
        x = 300 + 10 * (index - begin)
        picture[400:500, x : x + 40] = 20


def some(*boxes, score=0.9):
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), score, np.float32),
        np.zeros(len(boxes), np.int64),
    )
