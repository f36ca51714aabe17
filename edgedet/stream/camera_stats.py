"""The figures of one camera, as a run counts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple


@dataclass(frozen=True)
class CameraStats:
    """Counts and times of one camera since the start.

    captured = processed + dropped + skipped + stale, and at most one frame more that waits for the detector.

    name:      as in ``Frame.camera``.
    state:     "opening", "live", "lost" (being reopened) or "ended" (given up, or closed).
    reason:    why it is lost or ended, "" while it is not.
    size_wh:   of the newest picture, (0, 0) before the first.
    captured:  frames that the camera delivered.
    processed: frames handed to the detector.
    dropped:   frames that a newer one replaced before the detector was free.
    skipped:   frames left out by choice (--every, --max-fps).
    stale:     frames of a frozen or looping camera, not handed over.
    gaps:      times that the camera was lost; gap_s is their sum in seconds, an open one included.
    age_ms:    of the newest result (see FrameResult), None before the first; age_p50_ms and age_p99_ms are of the last
               ones.
    left_out:  results that the recording had no time for.
    """

    name: str
    state: str
    reason: str
    size_wh: Tuple[int, int]
    captured: int
    processed: int
    dropped: int
    skipped: int
    stale: int
    gaps: int
    gap_s: float
    age_ms: Optional[float]
    age_p50_ms: Optional[float]
    age_p99_ms: Optional[float]
    left_out: int = 0
