"""The share of AP that each file of the study keeps by labels, and its standard error.

Two figures are by pictures that the verdict does not see: ``kept``, against the float model's AP on the pictures as
they are, and ``kept_of_mean``, against its mean AP over the pictures as they are and moved by one pixel (MOVES_XY). The
float model's AP on one run is chance to some per cent (docs/int8.md), and that chance is the same for all files of a
scene. The third, ``kept_where_judged``, is by a person's labels of the very pictures that the verdict is given on: it
shows how well any measure on so many pictures can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.benchmarks.studies.verdict.detections import load
from edgedet.benchmarks.studies.verdict.report import folder_of
from edgedet.benchmarks.studies.verdict.scenes import SCENES, Labelled, labelled_of
from edgedet.judge.gate.perturbation import MOVES_XY
from edgedet.judge.labels import LabelledImage
from edgedet.judge.matching import MatchedDetections, match_dataset

RESAMPLES = 20


@dataclass(frozen=True)
class Known:
    """What a file keeps by labels, and the standard errors over resampled pictures.

    kept:         share of the float model's AP on the pictures as they are.
    kept_of_mean: share of its mean AP over the pictures as they are and moved by one pixel.
    float_moved:  that mean as a share of the AP on the pictures as they are.
    label_boxes:  number of labels.
    kept_where_judged: share of the float model's AP on the pictures that the verdict is given on; None without labels.
    """

    kept: float
    error: float
    kept_of_mean: float
    error_of_mean: float
    float_moved: float
    label_boxes: int
    kept_where_judged: float | None


def with_known(rows: Sequence[dict[str, Any]], cache: Path, shared: Path) -> list[dict[str, Any]]:
    """Return the rows with the fields of ``Known``, by all labelled pictures that a file was run on.

    rows: of the ledger, whose ``kept`` is by the test pictures alone.
    """
    labels = {scene.name: KnownOfScene(labelled_of(scene, shared), folder_of(cache, scene.name)) for scene in SCENES}
    return [{**row, **asdict(labels[row["scene"]].known(row["variant"].replace(" ", "_")))} for row in rows]


class KnownOfScene:
    """A scene's labelled pictures, and what its float model detects in them."""

    def __init__(self, labelled: Labelled, folder: Path) -> None:
        """folder: where the scene's detections are kept."""
        self._labelled, self._folder = labelled, folder
        self._by_float = lru_cache(maxsize=None)(self._match_float)

    def _images(self, parts: Sequence[str]) -> tuple[LabelledImage, ...]:
        return tuple(image for part in parts for image in getattr(self._labelled, part))

    def _match_float(self, parts: tuple[str, ...]) -> list[MatchedDetections]:
        """Match the float model's runs, on the pictures as they are and moved, to the labels."""
        names = ["", *(f"_moved_{dx}_{dy}" for dx, dy in MOVES_XY)]
        runs = [[item for part in parts for item in load(self._folder / f"float_{part}{name}.npz")] for name in names]
        return [match_dataset(self._images(parts), run, self._labelled.class_map) for run in runs]

    def known(self, name: str) -> Known:
        """Return what the file ``name`` keeps; each run over the test pictures is joined with that over more."""
        runs = [load(path) for path in sorted(self._folder.glob(f"{name}_test_*.npz"))]
        more = self._folder / f"{name}_more_0.npz"
        parts: tuple[str, ...] = ("test",)
        if more.exists():
            parts, runs = ("test", "more"), [run + load(more) for run in runs]
        images = self._images(parts)
        by_float = self._by_float(parts)
        by_file = [match_dataset(images, run, self._labelled.class_map) for run in runs]
        count = len(images)
        draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
        weights = [np.ones(count), *draws]
        of_file = np.array([[matched.compute_ap(weight) or 0.0 for matched in by_file] for weight in weights]).mean(1)
        of_float = np.array([[matched.compute_ap(weight) or 0.0 for matched in by_float] for weight in weights])
        kept, kept_of_mean = of_file / of_float[:, 0], of_file / of_float.mean(1)
        return Known(
            float(kept[0]),
            float(kept[1:].std()),
            float(kept_of_mean[0]),
            float(kept_of_mean[1:].std()),
            float(of_float[0].mean() / of_float[0, 0]),
            int(by_float[0].ground_truth_counts.sum()),
            self._kept_where_judged(name),
        )

    def _kept_where_judged(self, name: str) -> float | None:
        images = self._labelled.judge
        if not images:
            return None
        of_file, of_float = (
            match_dataset(images, load(self._folder / f"{model}_judge.npz"), self._labelled.class_map).compute_ap(
                np.ones(len(images))
            )
            for model in (name, "float")
        )
        return (of_file or 0.0) / of_float if of_float else None
