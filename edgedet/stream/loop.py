"""The run: frames from a source through a detector to the sinks, and what to say of it. Knows no file and no option."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Callable, Deque, Dict, List, Optional, Sequence

import numpy as np

from ..types import Frame, FrameResult
from .sinks import Write
from .sources import Source

_TIMINGS_KEPT = 10_000  # a camera runs for months: percentiles are those of the last frames


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    seconds:       of wall time, from before the first read to after the last write; fps is frames by these.
    p50_ms/p90_ms: per stage: "read" (for live sources: waiting for a frame), those of FrameResult, and "write".
    failures:      a line for each input that could not be read.
    """

    frames: int
    seconds: float
    fps: float
    detections: int
    p50_ms: Dict[str, float]
    p90_ms: Dict[str, float]
    failures: List[str]


def run_frames(
    source: Source,
    detect: Callable[[Frame], FrameResult],
    sinks: Sequence[Write],
    stopped: Callable[[], bool],
    limit: Optional[int] = None,
    progress: Callable[[int, int], None] = lambda frames, found: None,
) -> RunSummary:
    """Take frames until the source ends, ``stopped`` says so, or ``limit`` frames are done.

    progress: called after each frame with the number of frames so far and the detections in this one.
    """
    timings_ms: Dict[str, Deque[float]] = defaultdict(lambda: deque(maxlen=_TIMINGS_KEPT))
    frames = detections = 0
    started = read_from = time.perf_counter()
    for frame in source:
        read = time.perf_counter()
        result = detect(frame)
        detected = time.perf_counter()
        for write in sinks:
            write(result)
        written = time.perf_counter()
        frames += 1
        detections += len(result.detections)
        stages_ms = {"read": (read - read_from) * 1e3, **result.timings_ms, "write": (written - detected) * 1e3}
        for stage, ms in stages_ms.items():
            timings_ms[stage].append(ms)
        progress(frames, len(result.detections))
        if stopped() or frames == limit:
            break
        read_from = time.perf_counter()
    seconds = time.perf_counter() - started
    return RunSummary(
        frames=frames,
        seconds=seconds,
        fps=frames / seconds if frames else 0.0,
        detections=detections,
        p50_ms={stage: float(np.percentile(values, 50)) for stage, values in timings_ms.items()},
        p90_ms={stage: float(np.percentile(values, 90)) for stage, values in timings_ms.items()},
        failures=list(source.failures),
    )
