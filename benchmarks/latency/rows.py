"""One model of a benchmark: from its file to its result."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedet.benchmarks.latency.measure import Latency
from edgedet.benchmarks.latency.result import ModelResult
from edgedet.benchmarks.latency.served import ServedDetector
from edgedet.benchmarks.models.family_files import FamilyFile
from edgedet.benchmarks.profile.file_macs import count_macs
from edgedet.errors import InputError

if TYPE_CHECKING:
    from edgedet.judge.labels import Dataset


@dataclass(frozen=True)
class Row:
    """One line of the table that will be printed: a file on a number of threads.

    family_file: what the file was exported as; None for the user's own files.
    """

    model: str
    threads: int
    family_file: FamilyFile | None = None

    @property
    def name(self) -> str:
        """The name in messages, different for each row."""
        return f"{self.family_file.label if self.family_file else self.model}, {self.threads} threads"

    @property
    def label(self) -> str:
        """The name to put before an error; "" for the user's own files, which errors name themselves."""
        return self.name if self.family_file else ""


def make_result(row: Row, served: ServedDetector, latency: Latency) -> ModelResult:
    """Return the result of one row from what was measured and what its process tells."""
    opened = served.opened
    spec = opened.meta.spec
    macs = count_macs(Path(row.model))
    network_s = float(np.mean(latency.stages_ms["network"])) / 1e3
    return ModelResult(
        model=row.model,
        model_sha256=opened.sha256,
        name=spec.name,
        phi=row.family_file.phi if row.family_file else None,
        weights=(row.family_file.weights or f"random, seed {row.family_file.seed}") if row.family_file else None,
        input_hw=spec.input_hw,
        num_classes=spec.num_classes,
        precision=opened.meta.precision,
        engine=opened.engine,
        threads=row.threads,
        bytes=Path(row.model).stat().st_size,
        macs=macs,
        gmacs_per_s=None if macs is None else macs / network_s / 1e9,
        n=latency.runs,
        fps=latency.fps,
        ms=latency.percentiles_ms(),
        cpu_ms=latency.cpu_ms,
        peak_rss_mb=served.peak_rss_mb(),
        rss_before_mb=opened.rss_before_mb,
        ap=None,
        runs_ms={stage: [round(value, 3) for value in latency.stages_ms[stage]] for stage in ("network", "end to end")},
    )


def add_accuracy(models: list[ModelResult], dataset: Dataset, threads: int) -> list[str]:
    """Measure AP of each file once, as ``edgedet eval`` does, and put it into ``models``; return what failed.

    Random weights have none.
    """
    from edgedet.judge.average_precision import SCORE_FLOOR, compute_accuracy, detect_images
    from edgedet.judge.labels import match_classes
    from edgedet.progress import with_progress

    failures = list(dataset.failures)
    aps: dict[str, float | None] = {}
    for index, row in enumerate(models):
        model = row.model
        if (row.weights or "").startswith("random"):
            continue
        if model not in aps:
            try:
                with closing(ServedDetector(model, threads, SCORE_FLOOR)) as served:
                    names = served.opened.meta.class_names
                    class_map = match_classes(dataset, names)
                    done, failed = detect_images(
                        served.find, with_progress(dataset.images, f"AP of {Path(model).name}", "image")
                    )
                aps[model] = compute_accuracy(done, class_map, names).figures["AP"] if done else None
                failures += [line for line in failed if line not in failures]
            except InputError as error:
                aps[model] = None
                failures.append(f"AP of {model}: {error}".rstrip("."))
        models[index] = replace(row, ap=aps[model])
    return failures
