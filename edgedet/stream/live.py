"""Several cameras as one source, which gives the newest frame of each camera in turn."""

from __future__ import annotations

import threading
import time
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

from ..errors import CameraError, EdgeDetError, SourceError, require
from ..progress import Say, say_nothing
from ..types import Frame, FrameResult
from .camera_stats import CameraStats
from .cameras.camera import POLITE_CLOSE_S, Camera
from .cameras.recovery import Opener, Recovery
from .pace import Pace

_STOP_POLL_S = 0.1  # while no frame comes, a request to stop is noticed within this time

NamedOpener = Tuple[str, Opener]


def _error_of(camera: Camera) -> EdgeDetError:
    """Return why a camera could not be opened, as a CameraError where it may be plugged in or switched on later."""
    error = camera.error or SourceError(f"{camera.name} does not answer.")
    return CameraError(str(error)) if type(error) is SourceError else error


class LiveSource:
    """Cameras that run until they are stopped. A reader that is slower than they are gets frames of each in turn."""

    live = True
    total: Optional[int] = None

    def __init__(
        self,
        openers: Sequence[NamedOpener],
        stopped: Callable[[], bool],
        say: Say = say_nothing,
        pace: Callable[[], Pace] = Pace,
        recovery: Optional[Recovery] = None,
    ) -> None:
        """Start taking frames.

        openers: the name of each camera, no two alike, and the function that opens it.
        stopped: called while waiting; True ends the iteration.
        say:     called with a line when a camera is lost or is back, from any thread.
        pace:    makes the Pace of each camera.
        """
        self._stopped = stopped
        self._say = say
        self._recovery = recovery or Recovery()
        self._closed = False
        require("cv2", "reading a camera")  # before any camera's time runs: a small board takes 25 s for it
        self._changed = threading.Condition()
        with self._changed:
            self.cameras = [
                Camera(name, opener, self._changed, say, pace(), self._recovery) for name, opener in openers
            ]
        self.name = ", ".join(camera.name for camera in self.cameras)

    @property
    def fps(self) -> Optional[float]:
        """Frames a second of the fastest camera, as the cameras state them."""
        return max(camera.fps for camera in self.cameras)

    @property
    def failures(self) -> List[str]:
        """A line for each camera that was given up."""
        return [f"{camera.name} stopped delivering: {camera.reason}." for camera in self.cameras if camera.given_up]

    def wait_until_open(self) -> None:
        """Wait until the first camera is open. From then on, cameras that fail are reported.

        Raises the first camera's error where none could be opened.
        """
        cameras = self.cameras
        with self._changed:
            while not any(camera.opened for camera in cameras):
                if self._stopped() or self._closed:
                    return
                if all(camera.failed_to_open() for camera in cameras):
                    raise _error_of(cameras[0])
                self._changed.wait(_STOP_POLL_S)
            for camera in cameras:
                camera.report_from_now_on()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the newest frames, each once, until stopped or until every camera was given up.

        Raises the first camera's error where none could be opened.
        """
        for (frame,) in self.groups(1):
            yield frame

    def groups(self, most: int, full: Callable[[Frame], bool] = lambda frame: False) -> Iterator[List[Frame]]:
        """Yield the newest frames of up to ``most`` cameras together, one of each camera; otherwise as ``__iter__``.

        Only frames that are there already are taken: none waits for another camera's.
        full: called with each frame that is taken; True where no other one goes with it.
        """
        self.wait_until_open()
        cameras = self.cameras
        turn = 0
        while not self._stopped() and not self._closed:
            with self._changed:
                self._changed.wait_for(self._can_continue, _STOP_POLL_S)
                for camera in cameras:
                    camera.check_for_stall()
                ended = all(camera.state == "ended" for camera in cameras)
            group: List[Frame] = []
            for number in (*range(turn, len(cameras)), *range(turn)):  # else a fast camera would always come first
                with self._changed:
                    frame = cameras[number].take()
                if frame is None:
                    continue
                group.append(frame)
                turn = (number + 1) % len(cameras)
                if full(frame) or len(group) == most:
                    break
            if group:
                yield group
            elif ended:
                return

    def _can_continue(self) -> bool:
        cameras = self.cameras
        return any(camera.waiting for camera in cameras) or all(camera.state == "ended" for camera in cameras)

    def note(self, result: FrameResult) -> None:
        """Add a result's age to its camera's figures."""
        with self._changed:
            for camera in self.cameras:
                if camera.name == result.frame.camera and result.age_ms is not None:
                    camera.note_age(result.age_ms)

    def note_left_out(self, camera: str) -> None:
        """Count a result that a camera's recording left out."""
        with self._changed:
            for candidate in self.cameras:
                if candidate.name == camera:
                    candidate.note_left_out()

    def stats(self) -> List[CameraStats]:
        """Return each camera's figures so far; may be called from any thread."""
        with self._changed:
            return [camera.stats() for camera in self.cameras]

    def close(self) -> None:
        """Stop the threads and close the cameras; the iteration ends."""
        if self._closed:
            return
        self._closed = True
        for camera in self.cameras:
            camera.ask_to_close()
        polite_until_s = time.monotonic() + POLITE_CLOSE_S  # for all of them together
        for camera in self.cameras:
            camera.close(polite_until_s)
