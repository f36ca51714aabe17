"""The run: pass frames from a source through a detector to the sinks, and measure each stage.

Reading, detecting and writing run in parallel. Of a file, the next frames are decoded ahead, and several copies of the
detector may work. A live source is asked for its newest frame when its one detector is free, so that no frame ages in a
queue. Sinks are called in the main thread, where windows must be.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Callable, Deque, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from ..types import Frame, FrameResult
from .camera_stats import CameraStats
from .live import LiveSource
from .outputs.sinks import Write
from .overlap import RunAhead, map_in_order
from .sources import Source

_TIMINGS_KEPT = 10_000  # percentiles are those of the last so many frames, since a camera runs for months
_READ_AHEAD = 2  # frames of a file: one that is ready, and one that is being decoded
_WRITE_BEHIND = 1  # results that may wait for the sinks


@dataclass(frozen=True)
class Batch:
    """How frames of several cameras are detected at once: the function, and how many frames it takes at most.

    full: called with each frame as it is taken; True where it is the last one of those that are detected at once.
    """

    detect: Callable[[List[Frame]], List[FrameResult]]
    most: int
    full: Callable[[Frame], bool] = lambda frame: False

    def detect_alone(self, frame: Frame) -> FrameResult:
        """Return the result of a frame that no other one goes with."""
        self.full(frame)
        return self.detect([frame])[0]


@dataclass(frozen=True)
class RunSummary:
    """The figures of a run.

    seconds:  wall time from before the first read to after the last write; fps is frames / seconds.
    p50_ms:   by stage, as p90_ms and p99_ms: "read" (for live sources: waiting for a frame), the stages of FrameResult,
              and "write". Stages overlap, so their sum may be more than the time between two frames.
    failures: a line for each input that could not be read.
    cameras:  the figures of each camera; empty for files.
    """

    frames: int
    seconds: float
    fps: float
    detections: int
    p50_ms: Dict[str, float]
    p90_ms: Dict[str, float]
    p99_ms: Dict[str, float]
    failures: List[str]
    cameras: List[CameraStats]


def run_frames(
    source: Source,
    detectors: Sequence[Callable[[Frame], FrameResult]],
    sinks: Sequence[Write],
    stopped: Callable[[], bool],
    limit: Optional[int] = None,
    progress: Callable[[int, int], None] = lambda frames, detections: None,
    follow: Callable[[FrameResult], FrameResult] = lambda result: result,
    batch: Optional[Batch] = None,
) -> RunSummary:
    """Process frames until the source ends, ``stopped`` returns True, or ``limit`` is reached; then close the source.

    detectors: one, or copies of one that work side by side on the frames of a file. They are called in other threads
               than this one, each always in the same.
    batch:     of several cameras, detects in the frames of some of them at once; in place of ``detectors``.
    follow:    makes what the sinks get, of all results in their order, as a tracker does; called in this thread.
    progress:  called after each frame with the number of frames so far and the detections in this one.
    """
    timings_ms: Dict[str, Deque[float]] = defaultdict(lambda: deque(maxlen=_TIMINGS_KEPT))
    frames = detections = 0
    started = time.perf_counter()
    with ExitStack() as resources:
        for result, read_ms in _iterate_results(source, detectors, batch, limit, resources):
            result = follow(result)
            detected = time.perf_counter()
            for write in sinks:
                write(result)
            write_ms = (time.perf_counter() - detected) * 1e3
            frames += 1
            detections += len(result.detections)
            for stage, ms in {"read": read_ms, **result.timings_ms, "write": write_ms}.items():
                timings_ms[stage].append(ms)
            progress(frames, len(result.detections))
            if stopped():
                break
    seconds = time.perf_counter() - started

    def percentile(share: int) -> Dict[str, float]:
        return {stage: float(np.percentile(values, share)) for stage, values in timings_ms.items()}

    return RunSummary(
        frames=frames,
        seconds=seconds,
        fps=frames / seconds if frames else 0.0,
        detections=detections,
        p50_ms=percentile(50),
        p90_ms=percentile(90),
        p99_ms=percentile(99),
        failures=list(source.failures),
        cameras=source.stats(),
    )


def _iterate_results(
    source: Source,
    detectors: Sequence[Callable[[Frame], FrameResult]],
    batch: Optional[Batch],
    limit: Optional[int],
    resources: ExitStack,
) -> Iterator[Tuple[FrameResult, float]]:
    """Yield each result with the milliseconds that reading its frame took; ``resources`` ends the threads."""
    if batch is not None and isinstance(source, LiveSource):
        together = islice(_detect_groups(source, batch), limit)
        results = resources.enter_context(closing(RunAhead(together, batch.most, "detecting")))
        resources.callback(source.close)
        return iter(results)
    frames: Iterator[Tuple[Frame, float]] = islice(_measure_reading(source), limit)
    if not source.live:
        ahead = resources.enter_context(closing(RunAhead(frames, _READ_AHEAD, "reading")))
        frames = iter(ahead)
    stages = [_measure_age(detect, source) for detect in detectors]
    results = resources.enter_context(closing(RunAhead(map_in_order(stages, frames), _WRITE_BEHIND, "detecting")))
    resources.callback(source.close)  # first of all, so that nobody waits for a frame
    return iter(results)


def _detect_groups(source: LiveSource, batch: Batch) -> Iterator[Tuple[FrameResult, float]]:
    began = time.perf_counter()
    for group in source.groups(batch.most, batch.full):
        read_ms = (time.perf_counter() - began) * 1e3
        results = batch.detect(group)
        detected_s = time.monotonic()
        for result in results:
            result = replace(result, age_ms=(detected_s - result.frame.captured_s) * 1e3)
            source.note(result)
            yield result, read_ms
        began = time.perf_counter()


def _measure_reading(source: Source) -> Iterator[Tuple[Frame, float]]:
    began = time.perf_counter()
    for frame in source:
        yield frame, (time.perf_counter() - began) * 1e3
        began = time.perf_counter()


def _measure_age(
    detect: Callable[[Frame], FrameResult], source: Source
) -> Callable[[Tuple[Frame, float]], Tuple[FrameResult, float]]:
    def stage(read: Tuple[Frame, float]) -> Tuple[FrameResult, float]:
        frame, read_ms = read
        result = detect(frame)
        if source.live:
            result = replace(result, age_ms=(time.monotonic() - frame.captured_s) * 1e3)
            source.note(result)
        return result, read_ms

    return stage
