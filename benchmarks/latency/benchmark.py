"""A benchmark as one Python call: ``edgedet.benchmark(["model.onnx"])``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgedet.benchmarks.latency.bench import run_bench
from edgedet.benchmarks.latency.options import BenchOptions
from edgedet.benchmarks.latency.result import BenchResult
from edgedet.engines.base import default_threads
from edgedet.postprocess import DEFAULT_SCORE


def benchmark(
    models: Sequence[str | Path],
    source: str | Path | None = None,
    runs: int = 50,
    seconds: float = 5.0,
    warmup: int = 5,
    threads: int | None = None,
    score: float = DEFAULT_SCORE,
) -> BenchResult:
    """Return what ``edgedet bench`` prints: the latency of model files, stage by stage, measured in turns.

    source: image, folder or video; None: the demo's clip. runs, seconds: at least so many, and so long.
    Models that failed are in ``failures``. Raises the reason where no model could be measured.
    """
    return run_bench(
        BenchOptions(
            models=tuple(str(model) for model in models),
            threads=(threads or default_threads(),),
            source=None if source is None else str(source),
            runs=runs,
            seconds=seconds,
            warmup=warmup,
            score=score,
        )
    )
