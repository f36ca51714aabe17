"""A detector in a process of its own: the times of its stages, its memory and its detections."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.artifact import ArtifactMeta
from edgedet.benchmarks.latency.device import describe_engine
from edgedet.benchmarks.latency.measure import time_run
from edgedet.child_process import Child, Handler
from edgedet.detector import Detector
from edgedet.errors import require
from edgedet.files import sha256_of
from edgedet.types import Detections, Frame

MEMORY, FIND = "memory", "find"


@dataclass(frozen=True)
class Opened:
    """What is known of a model file once it is open.

    engine: package and version; rss_before_mb: of Python, numpy and OpenCV, before the engine and the model came.
    """

    meta: ArtifactMeta
    sha256: str
    engine: str
    rss_before_mb: float | None


class ServedDetector:
    """One model, open in a child until ``close``; raises what opening it raised."""

    def __init__(
        self, model: str, threads: int, score: float, opener: Callable[[str, int, float], Detector] = Detector
    ) -> None:
        """See ``Detector``; one thread count for the engine and OpenCV.

        opener: what makes a detector of ``model``; of a module, so that the child can import it.
        """
        self._child = Child(_open, model, threads, score, opener)
        try:
            self.opened: Opened = self._child.first()
        except BaseException:
            self.close()
            raise

    def run(self, frame: Frame) -> dict[str, float]:
        """Return the milliseconds of one run: stages, end to end, CPU."""
        times: dict[str, float] = self._child.ask(frame)
        return times

    def peak_rss_mb(self) -> float | None:
        """Return the most memory that the process has held so far, in MB (10^6 bytes), None where it is not known.

        Python, numpy and OpenCV are in it, as they are in any program that detects.
        """
        peak: float | None = self._child.ask(MEMORY)
        return peak

    def find(self, bgr: np.ndarray) -> Detections:
        """Return the model's detections in a picture (H, W, 3) uint8 BGR."""
        detections: Detections = self._child.ask((FIND, bgr))
        return detections

    def close(self) -> None:
        """End the process."""
        self._child.close()


def _open(
    model: str, threads: int, score: float, opener: Callable[[str, int, float], Detector]
) -> tuple[Opened, Handler]:
    require("cv2", "edgedet bench").setNumThreads(threads)
    before_mb = read_rss_mb("VmRSS")
    detector = opener(model, threads, score)

    def handle(question: Any) -> Any:
        if question == MEMORY:
            return read_rss_mb("VmHWM")
        if isinstance(question, tuple):
            return detector(question[1])
        return time_run(detector.detect, question)

    sha256 = sha256_of(model) if Path(model).is_file() else ""  # an opener's own way of naming
    return Opened(detector.meta, sha256, describe_engine(Path(model)), before_mb), handle


def read_rss_mb(field: str) -> float | None:
    """Return VmRSS (now) or VmHWM (most so far) of this process in MB, by Linux's /proc; None elsewhere."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    match = re.search(rf"^{field}:\s*(\d+) kB", status, re.MULTILINE)
    return round(int(match.group(1)) * 1024 / 1e6, 1) if match else None
