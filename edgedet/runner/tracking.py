"""Tracks in a run: one tracker a camera, and detectors that also report what may continue a track."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Dict, Sequence

from ..detector import Detector
from ..track.byte_track import LOW_SHARE, ByteTracker
from ..types import FrameResult


class Tracking:
    """Gives each detection its track's id; without ``on``, leaves results as they are.

    The detectors' own threshold is LOW_SHARE of the run's, so that an object that is half hidden keeps its track.
    Detections below the run's threshold are not in the results.
    """

    def __init__(self, detectors: Sequence[Detector], on: bool) -> None:
        """Take the run's detectors, with its threshold."""
        self._detectors = detectors
        self._on = on
        self._trackers: Dict[str, ByteTracker] = {}
        self.set_score(detectors[0].score)

    def score(self) -> float:
        """Return the run's threshold."""
        return self._score

    def set_score(self, score: float) -> None:
        """Change it, from any thread; raises InputError outside (0, 1)."""
        for detector in self._detectors:
            detector.score = score  # refuses what is out of range
            if self._on:
                detector.score = score * LOW_SHARE
        self._score = score

    def __call__(self, result: FrameResult) -> FrameResult:
        """Return a frame's result with tracks; results come in the order of the frames."""
        if not self._on:
            return result
        began = time.perf_counter()
        score = self._score
        frame, detections = result.frame, result.detections
        tracker = self._trackers.setdefault(frame.camera, ByteTracker())
        track_ids = tracker.update(detections, frame.captured_s, score)
        shown = replace(detections, track_ids=track_ids)[detections.scores >= score]
        timings_ms = {**result.timings_ms, "track": (time.perf_counter() - began) * 1e3}
        return replace(result, detections=shown, tracks=tracker.tracks, timings_ms=timings_ms)
