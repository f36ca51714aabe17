"""Count what became of a camera's frames, how long it was lost, and how old its results were."""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, Tuple

import numpy as np

from ..camera_stats import CameraStats

_COUNTED = ("captured", "processed", "dropped", "skipped", "stale", "gaps")
_AGES_KEPT = 10_000  # percentiles are those of the last so many frames, since a camera runs for months


class Tally:
    """The figures of one camera since the start.

    counts: by the names of CameraStats; gap_s: seconds in which it was lost, without a gap that is still open.
    size_wh: of the newest picture, (0, 0) before the first.
    left_out: results that the recording had no time for.
    """

    def __init__(self) -> None:
        self.counts: Dict[str, int] = dict.fromkeys(_COUNTED, 0)
        self.gap_s = 0.0
        self.size_wh: Tuple[int, int] = (0, 0)
        self.left_out = 0
        self._ages_ms: Deque[float] = deque(maxlen=_AGES_KEPT)

    def note_age(self, age_ms: float) -> None:
        """Add the age of a result."""
        self._ages_ms.append(age_ms)

    def stats(self, name: str, state: str, reason: str, open_gap_s: float) -> CameraStats:
        """Return the figures so far; ``open_gap_s``: seconds of the gap that is still open, 0 without one."""
        p50_ms, p99_ms = np.percentile(self._ages_ms, (50, 99)).tolist() if self._ages_ms else (None, None)
        return CameraStats(
            name=name,
            state=state,
            reason=reason,
            size_wh=self.size_wh,
            **self.counts,
            gap_s=self.gap_s + open_gap_s,
            age_ms=self._ages_ms[-1] if self._ages_ms else None,
            age_p50_ms=p50_ms,
            age_p99_ms=p99_ms,
            left_out=self.left_out,
        )
