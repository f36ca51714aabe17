"""Measure the time of each stage of several models, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedet.types import Frame, FrameResult

STAGES = ("preprocess", "network", "postprocess", "end to end")
CPU = "cpu"  # beside the stages: milliseconds of all threads of the process, "end to end"
PERCENTILES = (50, 90, 99)

if TYPE_CHECKING:  # Python 3.8, which JetPack 5 has, cannot evaluate it
    Run = Callable[[Frame], Mapping[str, float]]  # one frame -> milliseconds of STAGES and CPU


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

    @property
    def cpu_ms(self) -> float:
        """Mean CPU time of a run, all threads."""
        return float(np.mean(self.stages_ms[CPU]))

    def percentiles_ms(self) -> dict[str, dict[str, float]]:
        """Return stage -> {"p50": ms, "p90": ms, "p99": ms}."""
        return {stage: compute_percentiles(self.stages_ms[stage]) for stage in STAGES}


@dataclass(frozen=True, eq=False)
class Measurement:
    """Latencies of several models, measured in turns.

    latencies:   by name, of models that ran in at least one round and did not fail.
    failures:    what went wrong, by the name of a model that failed.
    rounds:      whole rounds that were counted.
    interrupted: whether Ctrl-C ended it.
    """

    latencies: dict[str, Latency]
    failures: dict[str, str]
    rounds: int
    interrupted: bool


def compute_percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return {"p50": ..., "p90": ..., "p99": ...}, between neighbours in a straight line (numpy's default)."""
    return {f"p{p}": float(np.percentile(values, p)) for p in PERCENTILES}


def count_rounds(runs: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """Count rounds from 0 until there have been ``runs`` and ``seconds`` have passed."""
    started = clock()
    done = 0
    while done < runs or clock() - started < seconds:
        yield done
        done += 1


def time_run(detect: Callable[[Frame], FrameResult], frame: Frame) -> dict[str, float]:
    """Run one frame and return the milliseconds of each stage, end to end by this clock, and of the CPU."""
    started, cpu = time.perf_counter(), time.process_time()
    result = detect(frame)
    ended, cpu_ended = time.perf_counter(), time.process_time()
    return {**result.timings_ms, "end to end": (ended - started) * 1e3, CPU: (cpu_ended - cpu) * 1e3}


def measure(models: Mapping[str, Run], frames: Sequence[Frame], warmup: int, counted: Iterator[int]) -> Measurement:
    """Run each model once a round, and return its latency, or what went wrong, by its name.

    All models see the same frame in a round, and each round begins with the next model: what else the machine does,
    and how warm it is, falls on all of them alike. Ctrl-C ends it; what was measured is returned.

    warmup:  runs of each model that are not counted: buffers are made and caches filled in them.
    counted: gives the number of each round (``count_rounds``).
    """
    failures: dict[str, str] = {}
    done, interrupted = 0, False
    times: dict[str, dict[str, list[float]]] = {name: {stage: [] for stage in (*STAGES, CPU)} for name in models}
    try:
        for index in range(warmup):
            for name, run in models.items():
                _try(name, run, frames[index % len(frames)], failures)
        for index in counted:
            names = [name for name in models if name not in failures]
            if not names:
                break
            first = index % len(names)
            for name in names[first:] + names[:first]:
                run_ms = _try(name, models[name], frames[index % len(frames)], failures)
                for stage, value in run_ms.items():
                    times[name][stage].append(value)
            done += 1
    except KeyboardInterrupt:
        interrupted = True
    latencies = {name: Latency(stages) for name, stages in times.items() if name not in failures and stages[STAGES[-1]]}
    return Measurement(latencies, failures, done, interrupted)


def _try(name: str, run: Run, frame: Frame, failures: dict[str, str]) -> Mapping[str, float]:
    """Return the milliseconds of one run; note the failure of a model that fails, and run it no more."""
    if name in failures:
        return {}
    try:
        return run(frame)
    except Exception as error:  # each engine has exceptions of its own; the other models are to be measured still
        failures[name] = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        return {}
