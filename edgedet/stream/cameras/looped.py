"""Play a video file again and again at its own speed, as a camera would."""

from __future__ import annotations

import time
from typing import Any, Callable, Optional, Tuple

import numpy as np

from ...errors import SourceError
from .capture import Capture, read_fps

_LATE_S = 0.5  # a reader that is later than this is not to catch up


class LoopedVideo:
    """A Capture whose frames come when they are due, and which begins again at the end."""

    def __init__(self, reopen: Callable[[], Capture]) -> None:
        """Open the file; ``reopen`` opens it from its beginning, each time round (not every container seeks well)."""
        self._reopen = reopen
        self._capture = reopen()
        self._interval_s = 1.0 / read_fps(self._capture)
        self._due_s = time.monotonic()

    def read(self, into: Optional[np.ndarray] = None) -> Tuple[bool, Any]:
        """Return the next frame when it is due."""
        self._wait()
        ok, bgr = self._capture.read()
        if not ok:
            self._begin_again()
            ok, bgr = self._capture.read()
        return ok, bgr

    def grab(self) -> bool:
        """Skip one frame, when it is due."""
        self._wait()
        if self._capture.grab():
            return True
        self._begin_again()
        return self._capture.grab()

    def captured_s(self) -> float:
        """Return when the last frame was read."""
        return self._capture.captured_s()

    def get(self, prop: int) -> float:
        """Return a property of the file."""
        return self._capture.get(prop)

    def release(self) -> None:
        """Close the file."""
        self._capture.release()

    def _wait(self) -> None:
        now = time.monotonic()
        self._due_s = max(self._due_s + self._interval_s, now - _LATE_S)
        time.sleep(max(0.0, self._due_s - now))

    def _begin_again(self) -> None:
        self._capture.release()
        try:
            self._capture = self._reopen()
        except OSError as error:
            raise SourceError(f"the video is gone: {error.strerror or error}.") from None
