"""Sum up a run's results: rates, latencies per stage, ages, counts per class.

The thread of the outputs notes each result; the web thread reads summaries. It has little priority, so it only copies
what it needs while it holds the lock, and works it out afterwards.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..track.count import ObjectCount
from ..types import FrameResult
from .history import STEPS, History

BOUNDS_MS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 2000, 5000)  # three a factor 5
RECENT = 300  # results that the page's percentiles and histograms are of
FPS_OVER_S = 5.0


class Histogram:
    """How many times, in milliseconds, lie in each interval of BOUNDS_MS since the start; and the last RECENT times.

    counts: for each bound the number of times up to it and above the bound before; then the number of longer times.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.sum_ms = 0.0
        self.recent_ms: Deque[float] = deque(maxlen=RECENT)

    def note(self, ms: float) -> None:
        """Count one time."""
        self.counts[bisect_left(BOUNDS_MS, ms)] += 1
        self.sum_ms += ms
        self.recent_ms.append(ms)


def summary_of(times_ms: Sequence[float]) -> Dict[str, Any]:
    """Return the percentiles of some times, and how many of them lie in each interval of BOUNDS_MS."""
    p50_ms, p90_ms, p99_ms = np.percentile(times_ms, (50, 90, 99)).tolist()
    counts = np.bincount(np.searchsorted(BOUNDS_MS, times_ms), minlength=len(BOUNDS_MS) + 1)
    return {"p50_ms": p50_ms, "p90_ms": p90_ms, "p99_ms": p99_ms, "counts": counts.tolist()}


class CameraFigures:
    """The figures of one camera, or of a file under the name "".

    result_s: when the newest result came, by the clock of Figures.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.result_s = 0.0
        self.now: Dict[int, int] = {}  # class id -> detections in the newest frame
        self.totals: Counter[int] = Counter()  # class id -> detections since the start
        self.objects: Optional[ObjectCount] = None  # where objects are followed
        self.ages = Histogram()
        self.history = History()
        self._times_s: Deque[float] = deque()

    def note(self, result: FrameResult, now_s: float, uptime_s: float) -> None:
        """Take one result."""
        self.frames += 1
        self.result_s = now_s
        self.now = dict(Counter(result.detections.class_ids.tolist()))
        self.totals.update(self.now)
        if result.tracks is not None:
            self.objects = self.objects or ObjectCount()
            self.objects.note(result)
        if result.age_ms is not None:
            self.ages.note(result.age_ms)
        self.history.note(uptime_s, result.age_ms, self.now)
        self._times_s.append(now_s)
        self._forget(now_s)

    def fps(self, now_s: float) -> float:
        """Return results a second over the last FPS_OVER_S."""
        self._forget(now_s)
        if len(self._times_s) < 2:
            return 0.0
        return (len(self._times_s) - 1) / max(now_s - self._times_s[0], 1e-3)

    def _forget(self, now_s: float) -> None:
        while self._times_s and self._times_s[0] < now_s - FPS_OVER_S:
            self._times_s.popleft()


class Figures:
    """The figures of all cameras. The thread of the outputs calls ``note``; any thread may call the rest."""

    def __init__(self, class_names: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        """Count from now; ``clock`` gives seconds."""
        self._class_names = class_names
        self._clock = clock
        self._lock = threading.Lock()
        self._started_s = clock()
        self._cameras: Dict[str, CameraFigures] = {}
        self._stages: Dict[str, Histogram] = {}

    def note(self, result: FrameResult) -> None:
        """Take one result."""
        with self._lock:
            now_s = self._clock()
            camera = self._cameras.setdefault(result.frame.camera, CameraFigures())
            camera.note(result, now_s, now_s - self._started_s)
            for stage, ms in result.timings_ms.items():
                self._stages.setdefault(stage, Histogram()).note(ms)

    def uptime_s(self) -> float:
        """Return the seconds since the start."""
        return self._clock() - self._started_s

    def silent_s(self, camera: Optional[str] = None) -> float:
        """Return the seconds since the newest result, of one camera or of any; without a result, since the start."""
        with self._lock:
            names = self._cameras if camera is None else [camera]
            last_s = max((self._cameras[name].result_s for name in names if name in self._cameras), default=None)
        return self._clock() - (self._started_s if last_s is None else last_s)

    def camera(self, name: str) -> Dict[str, Any]:
        """Return what the page shows of one camera.

        By class name, "now" and "total" are boxes; "objects" are tracks, None where nothing is followed.
        """
        with self._lock:
            camera = self._cameras.get(name, CameraFigures())
            fps, frames, now = camera.fps(self._clock()), camera.frames, camera.now
            totals = dict(camera.totals)
            objects = None if camera.objects is None else dict(camera.objects.by_class)
            ages_ms = list(camera.ages.recent_ms)
        return {
            "fps": fps,
            "frames": frames,
            "now": self._named(now),
            "total": self._named(totals),
            "objects": None if objects is None else self._named(objects),
            "age": summary_of(ages_ms) if ages_ms else None,
        }

    def history(self, name: str, steps: int = STEPS) -> Dict[str, Any]:
        """Return the camera's last complete steps as ``History.columns`` does, "boxes" by class name."""
        with self._lock:
            columns = self._cameras.get(name, CameraFigures()).history.columns(self.uptime_s(), steps)
        columns["boxes"] = {self._class_names[class_id]: values for class_id, values in columns["boxes"].items()}
        return columns

    def stages(self) -> Dict[str, Dict[str, Any]]:
        """Return the last times of each stage."""
        with self._lock:
            times_ms = {stage: list(histogram.recent_ms) for stage, histogram in self._stages.items()}
        return {stage: summary_of(times) for stage, times in times_ms.items()}

    def histograms(self) -> Tuple[Dict[str, Tuple[List[int], float]], Dict[str, Tuple[List[int], float]]]:
        """Return (counts, sum in milliseconds) since the start, of each stage and of each camera's frame ages."""
        with self._lock:
            stages = {name: (list(histogram.counts), histogram.sum_ms) for name, histogram in self._stages.items()}
            ages = {
                name: (list(camera.ages.counts), camera.ages.sum_ms)
                for name, camera in self._cameras.items()
                if camera.ages.recent_ms
            }
        return stages, ages

    def _named(self, counts: Dict[int, int]) -> Dict[str, int]:
        return {self._class_names[class_id]: count for class_id, count in sorted(counts.items())}
