"""Time of each stage of several models, measured in turns. Knows detectors and frames; knows no file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedet.types import Frame, FrameResult

Detect = Callable[[Frame], FrameResult]

STAGES = ("preprocess", "network", "postprocess", "end to end")
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, eq=False)
class Latency:
    """Milliseconds of each run of one model: stage -> one value a run.

    "end to end" is the time of a whole call, from the frame's pixels to boxes in them; nothing is read or drawn.
    """

    stages_ms: Mapping[str, Sequence[float]]

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.stages_ms["end to end"])

    @property
    def fps(self) -> float:
        """Frames a second of one run after the other: 1 / mean of "end to end"."""
        return 1e3 / float(np.mean(self.stages_ms["end to end"]))

    def percentiles_ms(self) -> dict[str, dict[str, float]]:
        """Return stage -> {"p50": ms, "p90": ms, "p99": ms}."""
        return {stage: percentiles(values) for stage, values in self.stages_ms.items()}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return {"p50": ..., "p90": ..., "p99": ...}, between neighbours in a straight line (numpy's default)."""
    return {f"p{p}": float(np.percentile(values, p)) for p in PERCENTILES}


def rounds(runs: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """Count rounds from 0 until there have been ``runs`` and ``seconds`` have passed."""
    started = clock()
    done = 0
    while done < runs or clock() - started < seconds:
        yield done
        done += 1


def measure(
    detectors: Mapping[str, Detect], frames: Sequence[Frame], warmup: int, counted: Iterator[int]
) -> tuple[dict[str, Latency], dict[str, str]]:
    """Run each model once a round, and return its latency, or what went wrong, by its name.

    All models see the same frame in a round, and each round begins with the next model: what else the machine does,
    and how warm it is, falls on all of them alike.

    warmup:  runs of each model that are not counted: buffers are made and caches filled in them.
    counted: gives the number of each round (``rounds``).
    """
    times: dict[str, dict[str, list[float]]] = {name: {stage: [] for stage in STAGES} for name in detectors}
    failures: dict[str, str] = {}
    for index in range(warmup):
        for name, detect in detectors.items():
            _try(name, detect, frames[index % len(frames)], failures)
    for index in counted:
        names = [name for name in detectors if name not in failures]
        if not names:
            break
        first = index % len(names)
        for name in names[first:] + names[:first]:
            run_ms = _try(name, detectors[name], frames[index % len(frames)], failures)
            for stage, value in run_ms.items():
                times[name][stage].append(value)
    return {name: Latency(stages) for name, stages in times.items() if name not in failures}, failures


def _try(name: str, detect: Detect, frame: Frame, failures: dict[str, str]) -> dict[str, Any]:
    """Return the milliseconds of one run; note the failure of a model that fails, and run it no more."""
    if name in failures:
        return {}
    started = time.perf_counter()
    try:
        result = detect(frame)
    except Exception as error:  # each engine has exceptions of its own; the other models are to be measured still
        failures[name] = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        return {}
    end_to_end_ms = (time.perf_counter() - started) * 1e3
    return {**result.timings_ms, "end to end": end_to_end_ms}
