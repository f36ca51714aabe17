"""Open what OpenCV calls a capture: a video file, a camera, a network stream. Knows no frame's time and no thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Tuple, Union

from ..errors import SourceError, require

OPEN_TIMEOUT_MS = 10_000  # for a host that does not answer; OpenCV's own default is 30 s
READ_TIMEOUT_MS = 10_000
FALLBACK_FPS = 25.0  # where a container or camera names none; only times and the saved video's speed depend on it
MAX_FPS = 1000.0  # more is a broken header


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` that sources use."""

    def read(self) -> Tuple[bool, Any]:
        """Return (True, (H, W, 3) uint8 BGR), or (False, None) where no frame comes any more."""
        ...

    def get(self, prop: int) -> float:
        """Return a property, 0 or -1 where it is unknown."""
        ...

    def release(self) -> None:
        """Let go of the device or file."""
        ...


def open_video(path: Path) -> Capture:
    """Open a video file; raises SourceError where it is empty or no video."""
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes).")
    cv2 = require("cv2", "reading a video")
    return _opened(cv2.VideoCapture(str(path)), f"{path} is damaged or no video that this OpenCV reads.")


def open_camera(device: Union[int, str]) -> Capture:
    """Open a camera by its number or device path; raises SourceError where there is none."""
    cv2 = require("cv2", "reading a camera")
    capture = cv2.VideoCapture(device)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # drivers that know it keep no queue of old frames
    return _opened(
        capture,
        f"camera {device} cannot be opened: is it connected (ls /dev/video*), free, and may this user read it "
        "(group video)?",
    )


def open_url(url: str) -> Capture:
    """Open a network stream; raises SourceError where it cannot be opened in time."""
    cv2 = require("cv2", "reading a stream")
    if cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        # FFmpeg takes timeouts in the constructor only
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
    else:
        capture = cv2.VideoCapture(url)
    return _opened(capture, f"{url} cannot be opened: is the address right, and does the stream run?")


def _opened(capture: Any, complaint: str) -> Capture:
    if not capture.isOpened():
        raise SourceError(complaint)
    opened: Capture = capture
    return opened


def fps_of(capture: Capture) -> float:
    """Return the frames a second that a capture claims, or FALLBACK_FPS where it names none that can be."""
    claimed = capture.get(require("cv2", "reading a video").CAP_PROP_FPS)
    return claimed if 0 < claimed <= MAX_FPS else FALLBACK_FPS
