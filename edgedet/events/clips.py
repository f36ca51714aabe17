"""The pictures of events as video: the seconds before one from a ring buffer in memory, then until some after it.

A camera has one video at a time, whatever number of events it shows, so that a crowd costs no more than one person.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Deque, Optional, Tuple

import numpy as np

from ..errors import require
from ..stream.outputs.segments import format_stamp
from ..stream.outputs.video_file import choose_recording_suffix, open_video_file

_JPEG_QUALITY = 85
_ROUNDING = 1e-6  # of a frame


@dataclass(frozen=True)
class ClipRules:
    """How events are recorded.

    before_s, after_s: seconds before the first and after the last picture of an object.
    fps:       pictures a second; 0: no clips.
    longest_s: then the next file begins, so that a long event can be played while it goes on.
    longest_px: of a picture's longer side; larger ones are scaled down.
    """

    before_s: float = 5.0
    after_s: float = 5.0
    fps: float = 5.0
    longest_s: float = 300.0
    longest_px: int = 1280


@dataclass
class _OpenVideo:
    path: Path
    started_s: float
    size_wh: Tuple[int, int]
    write: Callable[[np.ndarray], None]
    held: ExitStack
    last: np.ndarray
    written: int = 0


class ClipRecorder:
    """One camera's ring buffer and video; used by one thread. Times are those of frames' capture."""

    def __init__(self, folder: Path, rules: ClipRules) -> None:
        """Write into ``folder``, by day."""
        self._folder, self._rules = folder, rules
        self._ring: Deque[Tuple[float, float, bytes]] = deque()  # (captured, seconds since 1970, JPEG)
        self._until_s = -np.inf  # of capture; the open video goes on until then
        self._open: Optional[_OpenVideo] = None

    @property
    def path(self) -> Optional[Path]:
        """Return the open video's path."""
        return self._open.path if self._open else None

    def since_s(self, captured_s: float) -> float:
        """Return how far into the open video a time is; 0 where it began later."""
        return max(0.0, captured_s - self._open.started_s) if self._open else 0.0

    def keep_until(self, captured_s: float) -> None:
        """Let the video go on for ``after_s`` from a time on."""
        self._until_s = max(self._until_s, captured_s + self._rules.after_s)

    def begin(self, bgr: np.ndarray, captured_s: float, utc_s: float) -> None:
        """Open a video where none is open, with what the ring buffer holds; ``bgr`` is the newest picture."""
        if self._open is not None:
            return
        cv2 = require("cv2", "recording events")
        ring = list(self._ring)
        self._ring.clear()
        pictures = [(when, utc, cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1)) for when, utc, jpeg in ring]
        fitted = self._fitted(bgr)
        pictures = [entry for entry in pictures if entry[2].shape == fitted.shape]
        started_s, started_utc_s = (pictures[0][0], pictures[0][1]) if pictures else (captured_s, utc_s)
        self._start(fitted, started_s, started_utc_s)
        for when, _, picture in pictures:
            self._write(picture, when)

    def add(self, bgr: np.ndarray, captured_s: float, utc_s: float) -> None:
        """Take a picture: into the open video, else into the ring buffer."""
        picture = self._fitted(bgr)
        video = self._open
        if video is not None and captured_s > self._until_s:
            self.close()
        elif video is not None and (
            video.size_wh != (picture.shape[1], picture.shape[0])
            or captured_s - video.started_s >= self._rules.longest_s
        ):
            self.close()
            self._start(picture, captured_s, utc_s)
        if self._open is not None:
            self._write(picture, captured_s)
            return
        cv2 = require("cv2", "recording events")
        _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        self._ring.append((captured_s, utc_s, jpeg.tobytes()))
        while self._ring and self._ring[0][0] < captured_s - self._rules.before_s:
            self._ring.popleft()

    def close(self) -> None:
        """Finish the open video."""
        video, self._open = self._open, None
        if video is not None:
            video.held.close()

    def _start(self, picture: np.ndarray, captured_s: float, utc_s: float) -> None:
        stamp = format_stamp(utc_s)
        path = self._folder / f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}" / f"{stamp}{choose_recording_suffix()}"
        size_wh = (picture.shape[1], picture.shape[0])
        held = ExitStack()
        write = held.enter_context(open_video_file(path, self._rules.fps, size_wh, grows=True))
        self._open = _OpenVideo(path, captured_s, size_wh, write, held, picture)

    def _write(self, picture: np.ndarray, captured_s: float) -> None:
        """Write a picture at its place in time, and the one before as often as is needed up to there."""
        video = self._open
        assert video is not None
        due = int((captured_s - video.started_s) * self._rules.fps + _ROUNDING) + 1
        for _ in range(video.written, due - 1):
            video.write(video.last)
        if due > video.written:
            video.write(picture)
        video.written = max(video.written, due)
        video.last = picture

    def _fitted(self, bgr: np.ndarray) -> np.ndarray:
        shrink = self._rules.longest_px / max(bgr.shape[:2])
        if shrink >= 1:
            return bgr
        size_wh = (round(bgr.shape[1] * shrink / 2) * 2, round(bgr.shape[0] * shrink / 2) * 2)
        cv2 = require("cv2", "recording events")
        return np.asarray(cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA))
