"""Choose the frames that are processed: every N-th one, and at most so many a second."""

from __future__ import annotations

from typing import Optional

_EARLY = 0.5  # share of the interval by which a frame may come too early and still be the one that is due


class Pace:
    """Decides, frame by frame, which ones are processed; each source has a Pace of its own."""

    def __init__(self, every: int = 1, max_fps: Optional[float] = None) -> None:
        """Take each ``every``-th frame, and of those at most ``max_fps`` a second."""
        self._every = every
        self._interval_s = 1.0 / max_fps if max_fps else 0.0
        self._due_s: Optional[float] = None
        self._last_s: Optional[float] = None

    def takes(self, index: int, now_s: float) -> bool:
        """Return whether frame ``index``, captured at ``now_s``, shall be processed; indices and times must ascend.

        Frames come at intervals of their own, so a frame is taken if it is nearer to the due time than the next one.
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
