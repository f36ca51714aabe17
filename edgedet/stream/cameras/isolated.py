"""A camera that is opened and read in a process of its own. Pictures come through shared memory, without a copy.

FFmpeg behind OpenCV holds one lock for the whole process while it opens a stream, and a driver may hang for ever
(docs/decisions/0017-capture-processes.md). In a process of its own a camera delays no other one, and it can be killed.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

from ... import errors
from ...child_process import Child, Handler
from ...errors import DeviceError, EdgeDetError, SourceError, require
from .capture import Capture
from .reasons import OpenCVLog
from .shared_frames import FramePlaces, FrameWriter, Shape, SharedMemory

CAN_ISOLATE = sys.platform != "win32"  # Windows hands no file descriptor to a child
_KILLED_AFTER = 1.5  # timeouts: FFmpeg has timeouts of its own, so a capture that takes longer hangs
_ANALYSIS_S = 6.0  # FFmpeg looks at up to 5 s of a stream before it is open
_START_S = 120.0  # for Python and `import cv2`, which takes 25 s on a small board that boots
_RELEASE_S = 1.0  # for closing a stream in good order, which tells the camera

OpenCapture = Callable[[], Capture]


class IsolatedCamera:
    """Opens one camera again and again; an opening's Capture is this object itself, so only one is open at a time.

    The process is started by the first ``prepare`` or opening and kept; where it hangs or crashed, by the next one.
    """

    def __init__(self, open_capture: OpenCapture, timeout_s: float) -> None:
        """Say what opens the camera, picklable, and after how long without a frame it is lost."""
        self._open_capture = open_capture
        self._answer_s = _KILLED_AFTER * timeout_s
        self._child: Optional[Child] = None
        self._memory: Optional[SharedMemory] = None
        self._places: Optional[FramePlaces] = None
        self._captured_s = 0.0
        self._aborted = False

    def prepare(self) -> None:
        """Start the process where none runs, and wait until it can open the camera."""
        if self._child is not None or self._aborted:
            return
        self._memory = SharedMemory()
        self._places = FramePlaces(self._memory)
        self._child = Child(_capture_server, self._open_capture, self._memory)
        if self._aborted:  # meanwhile, by another thread
            self._child.kill()
        try:
            self._child.first(_START_S)
        except TimeoutError:
            self._end()
            raise SourceError(f"its capture process did not start within {_START_S:g} s.") from None
        except DeviceError as error:
            self._end()
            raise SourceError(f"its capture process did not start: {error}.") from None

    def __call__(self) -> Capture:
        """Open the camera. Raises SourceError where that fails, or does not end in time: then the process is killed."""
        self.prepare()
        self._ask("open", within_s=self._answer_s + _ANALYSIS_S)
        return self

    def abort(self) -> None:
        """Kill the process and let no other start; may be called from any thread, and ends what waits for it."""
        self._aborted = True
        child = self._child
        if child is not None:
            child.kill()

    def close(self) -> None:
        """End the process, for the thread that opens and reads."""
        self._end()

    # --- the capture ---------------------------------------------------------------------------------------------

    def read(self, into: Optional[np.ndarray] = None) -> Tuple[bool, Any]:
        """Return (True, picture), where the picture's memory is free for another one once nobody looks at it."""
        assert self._places is not None
        place = self._places.claim()
        shape, in_place = self._ask("read", place[0], self._places.shape)
        if shape is None:
            self._places.give_back(place)
            return False, None
        if not in_place:  # the first picture, or one of another size
            self._places.allot(shape)
            place = self._places.claim()
            self._ask("place", place[0], shape)
        return True, self._places.picture(place)

    def grab(self) -> bool:
        """Skip a frame."""
        return bool(self._ask("grab"))

    def captured_s(self) -> float:
        """Return when the last frame was at the sensor, as far as that is known."""
        return self._captured_s

    def get(self, prop: int) -> float:
        """Return a property."""
        return float(self._ask("get", prop))

    def release(self) -> None:
        """Close the camera; the process stays for the next opening, if it answers."""
        if self._child is not None:
            with suppress(SourceError):
                self._ask("release", within_s=_RELEASE_S)

    def _ask(self, *question: Any, within_s: Optional[float] = None) -> Any:
        if self._child is None:
            raise SourceError("its capture process was ended.")
        within_s = self._answer_s if within_s is None else within_s
        try:
            kind, value, self._captured_s = self._child.ask(question, within_s)
        except TimeoutError:
            self._end()
            raise SourceError(f"no answer for {within_s:g} s; its capture process was ended") from None
        except DeviceError as error:
            self._end()
            raise SourceError(f"its capture process ended: {error}") from None
        if kind:
            raise getattr(errors, kind, SourceError)(value)
        return value

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.close()
            self._child = None
        if self._memory is not None:
            self._memory.close()
            self._memory = self._places = None


# --- in the child ----------------------------------------------------------------------------------------------------


def _capture_server(open_capture: OpenCapture, memory: SharedMemory) -> Tuple[None, Handler]:
    log = OpenCVLog()
    require("cv2", "reading a camera")  # before the caller's clock starts
    return None, _CaptureServer(open_capture, memory, log)


_TIMED = ("read", "place", "grab")


class _CaptureServer:
    """Answers (name of an error or "", value or message, when the last frame was captured)."""

    def __init__(self, open_capture: OpenCapture, memory: SharedMemory, log: OpenCVLog) -> None:
        self._open_capture = open_capture
        self._log = log
        self._writer = FrameWriter(memory)
        self._capture: Optional[Capture] = None
        self._unplaced: Optional[np.ndarray] = None
        self._actions: Dict[str, Callable[..., Any]] = {
            "open": self._open,
            "read": self._read,
            "place": self._place,
            "grab": self._grab,
            "get": self._get,
            "release": self._release,
        }

    def __call__(self, question: Tuple[Any, ...]) -> Tuple[str, Any, float]:
        name, *arguments = question
        try:
            value = self._actions[name](*arguments)
        except EdgeDetError as error:
            return type(error).__name__, str(error), 0.0
        except Exception as error:  # whatever a driver does: it may be better the next time
            return "SourceError", str(error) or type(error).__name__, 0.0
        return "", value, self._capture.captured_s() if name in _TIMED and self._capture else 0.0

    def _open(self) -> None:
        self._release()
        self._log.clear()
        try:
            self._capture = self._open_capture()
        except SourceError as error:
            raise self._log.explained(error) from None

    def _opened(self) -> Capture:
        assert self._capture is not None
        return self._capture

    def _read(self, offset: int, shape: Shape) -> Tuple[Optional[Shape], bool]:
        place = self._writer.place(offset, shape) if shape else None
        ok, bgr = self._opened().read(place) if place is not None else self._opened().read()
        if not ok or bgr is None:
            return None, False
        bgr = np.asarray(bgr)
        if place is None or bgr.shape != shape:
            self._unplaced = bgr
            return bgr.shape, False
        if bgr.ctypes.data != place.ctypes.data:  # the driver has memory of its own
            np.copyto(place, bgr)
        return bgr.shape, True

    def _place(self, offset: int, shape: Shape) -> None:
        assert self._unplaced is not None
        np.copyto(self._writer.place(offset, shape), self._unplaced)
        self._unplaced = None

    def _grab(self) -> bool:
        return self._opened().grab()

    def _get(self, prop: int) -> float:
        return self._opened().get(prop)

    def _release(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()
