"""The share of AP that each file of the study keeps by labels, and its standard error. Knows labels; runs no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.benchmarks.studies.verdict.detections import load
from edgedet.benchmarks.studies.verdict.report import folder_of
from edgedet.benchmarks.studies.verdict.scenes import SCENES, Labelled, labelled_of
from edgedet.judge.matching import match_dataset

RESAMPLES = 20


@dataclass(frozen=True)
class Known:
    """kept: share of the float model's AP; error: its standard error over resampled pictures; boxes: of the labels."""

    kept: float
    error: float
    boxes: int


def with_known(rows: Sequence[dict[str, Any]], cache: Path, shared: Path) -> list[dict[str, Any]]:
    """Return the rows with ``kept``, ``error`` and ``label_boxes``, by all labelled pictures that a file was run on.

    rows: of the ledger, whose ``kept`` is by the test pictures alone.
    """
    labels = {scene.name: labelled_of(scene, shared) for scene in SCENES}
    result = []
    for row in rows:
        known = known_of(labels[row["scene"]], folder_of(cache, row["scene"]), row["variant"].replace(" ", "_"))
        result.append({**row, "kept": known.kept, "error": known.error, "label_boxes": known.boxes})
    return result


def known_of(labelled: Labelled, folder: Path, name: str) -> Known:
    """Return what the file ``name`` keeps; each run over the test pictures is joined with that over more pictures."""
    images, reference = labelled.test, load(folder / "float_test.npz")
    runs = [load(path) for path in sorted(folder.glob(f"{name}_test_*.npz"))]
    more = folder / f"{name}_more_0.npz"
    if more.exists():
        images, reference = images + labelled.more, reference + load(folder / "float_more.npz")
        runs = [run + load(more) for run in runs]
    by_float = match_dataset(images, reference, labelled.class_map)
    by_file = [match_dataset(images, run, labelled.class_map) for run in runs]

    def kept(weights: np.ndarray) -> float:
        return float(np.mean([one.compute_ap(weights) or 0.0 for one in by_file])) / (by_float.compute_ap(weights) or 1)

    count = len(images)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
    error = float(np.std([kept(weights) for weights in draws]))
    return Known(kept(np.ones(count)), error, int(by_float.ground_truth_counts.sum()))
