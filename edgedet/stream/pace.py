"""Which frames are looked at: every N-th, and not more than so many a second. Knows numbers and times only."""

from __future__ import annotations

from typing import Optional

_EARLY = 0.5  # of a frame's interval, below: a frame that comes this much too early is still the one that was due


class Pace:
    """Decides frame by frame; one Pace belongs to one source."""

    def __init__(self, every: int = 1, max_fps: Optional[float] = None) -> None:
        """Take each ``every``-th frame, and of those at most ``max_fps`` a second."""
        self._every = every
        self._interval_s = 1.0 / max_fps if max_fps else 0.0
        self._due_s: Optional[float] = None
        self._last_s: Optional[float] = None

    def takes(self, index: int, now_s: float) -> bool:
        """Return True where frame ``index``, captured at ``now_s``, is to be looked at; indices and times ascend.

        Frames come in steps, so one is taken where it lies nearer to the time that is due than the next one will.
        """
        if index % self._every:
            return False
        step_s = now_s - self._last_s if self._last_s is not None else 0.0
        self._last_s = now_s
        if self._due_s is not None and now_s < self._due_s - _EARLY * min(step_s, self._interval_s):
            return False
        # One interval after the time that was due, so that the mean rate is kept; after a pause, from now.
        due_s = now_s if self._due_s is None or now_s > self._due_s + self._interval_s else self._due_s
        self._due_s = due_s + self._interval_s
        return True
