"""Run a model file on many pictures and keep all that it detects, so that measures can be compared offline."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from edgedet.engines.base import open_engine
from edgedet.files import atomic_path
from edgedet.judge.gate.perturbation import PerturbedEngine
from edgedet.judge.gate.pseudo_labels import detections_on
from edgedet.types import Detections, ModelInput

FLOOR = 0.01


def save(path: Path, detections: Sequence[Detections]) -> None:
    """Write detections of several pictures."""
    counts = np.array([len(item) for item in detections], dtype=np.int64)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            counts=counts,
            boxes=np.concatenate([item.boxes_xyxy for item in detections]),
            scores=np.concatenate([item.scores for item in detections]),
            classes=np.concatenate([item.class_ids for item in detections]),
        )


def load(path: Path) -> list[Detections]:
    """Read ``save``'s file."""
    with np.load(path) as held:
        ends = np.cumsum(held["counts"])[:-1]
        parts = [np.split(held[name], ends) for name in ("boxes", "scores", "classes")]
    return [Detections(*item) for item in zip(*parts, strict=True)]


def save_outlines(path: Path, outlines: Sequence[np.ndarray]) -> None:
    """Write the edges around what a float model detects, (n, 2, sizes) for each picture."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, counts=[len(picture) for picture in outlines], curves=np.concatenate(outlines))


def load_outlines(path: Path) -> list[np.ndarray]:
    """Read ``save_outlines``'s file."""
    with np.load(path) as held:
        return list(np.split(held["curves"], np.cumsum(held["counts"])[:-1]))


def detect(path: Path, pictures: Sequence[ModelInput], seed: int | None = None) -> list[Detections]:
    """Return what a file detects from FLOOR up; ``seed`` is that of ``PerturbedEngine``, None changes nothing."""
    meta, opened = open_engine(path, 1)
    with closing(opened):
        engine = opened if seed is None else PerturbedEngine(opened, seed)
        return detections_on(engine.infer, meta, pictures, FLOOR)
