"""Open what gives frames: a video file, a network stream, a GStreamer pipeline. Knows no frame's time and no thread.

Cameras that sit on the board itself are in ``devices``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Protocol, Set, Tuple

from ..errors import SourceError, require
from .address import public_name
from .pipelines import file_pipeline, is_gstreamer, require_gstreamer, stream_pipeline

TIMEOUT_S = 10.0  # a camera that gives nothing for so long is lost; OpenCV's own timeouts are 30 s
FALLBACK_FPS = 25.0  # where a container or camera names none; only times and the saved video's speed depend on it
MAX_FPS = 1000.0  # more is a broken header
TRANSPORTS = ("tcp", "udp")
PIXEL_FORMATS = ("auto", "MJPG", "YUYV", "NV12", "GREY", "H264")
_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"  # OpenCV takes FFmpeg's options from here alone, at each opening
_own_options: Set[str] = set()  # those that were put there by this module, not by the user


@dataclass(frozen=True)
class CaptureOptions:
    """How sources are opened.

    size_wh:      wanted of a camera, None for its own choice; fps likewise.
    pixel_format: one of PIXEL_FORMATS, of V4L2 cameras.
    transport:    of RTSP: "tcp" loses nothing, "udp" delays nothing.
    timeout_s:    until a network host, or a camera that runs, is taken for lost.
    decoder:      one of ``pipelines.DECODERS``.
    """

    size_wh: Optional[Tuple[int, int]] = None
    fps: Optional[float] = None
    pixel_format: str = "auto"
    transport: str = "tcp"
    timeout_s: float = TIMEOUT_S
    decoder: str = "software"


DEFAULTS = CaptureOptions()


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` that sources use."""

    def read(self) -> Tuple[bool, Any]:
        """Return (True, (H, W, 3) uint8 BGR), or (False, None) where no frame comes any more."""
        ...

    def grab(self) -> bool:
        """Pass over one frame, at less cost than reading it; False where no frame comes any more."""
        ...

    def get(self, prop: int) -> float:
        """Return a property, 0 or -1 where it is unknown."""
        ...

    def release(self) -> None:
        """Let go of the device or file."""
        ...


def open_video(path: Path, options: CaptureOptions = DEFAULTS) -> Capture:
    """Open a video file; raises SourceError where it is empty or no video."""
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes).")
    if is_gstreamer(options.decoder):
        return open_pipeline(file_pipeline(str(path), options.decoder), str(path))
    cv2 = require("cv2", "reading a video")
    if options.decoder == "software":
        capture = cv2.VideoCapture(str(path))
    else:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, _hardware(cv2))
    return opened(capture, f"{path} is damaged or no video that this OpenCV reads.")


def open_url(url: str, options: CaptureOptions = DEFAULTS) -> Capture:
    """Open a network stream; raises SourceError where it cannot be opened in time."""
    name = public_name(url)
    if is_gstreamer(options.decoder):
        pipeline = stream_pipeline(url, options.decoder, options.transport, options.timeout_s)
        return open_pipeline(pipeline, name)
    cv2 = require("cv2", "reading a stream")
    if not cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        return opened(cv2.VideoCapture(url), _unreachable(name))
    timeout_ms = round(options.timeout_s * 1000)
    # FFmpeg takes timeouts in the constructor only
    parameters = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    if options.decoder != "software":
        parameters += _hardware(cv2)
    _set_transport(options.transport)
    return opened(cv2.VideoCapture(url, cv2.CAP_FFMPEG, parameters), _unreachable(name))


def _set_transport(transport: str) -> None:
    """Tell FFmpeg the transport, where the user told it nothing.

    What is set stays: changing it at each opening would be a change under threads that read the environment.
    """
    wanted = f"rtsp_transport;{transport}"
    current = os.environ.get(_FFMPEG_OPTIONS)
    if current is None or (current in _own_options and current != wanted):
        _own_options.add(wanted)
        os.environ[_FFMPEG_OPTIONS] = wanted


def _unreachable(name: str) -> str:
    return f"{name} cannot be opened: is the address right, and does the stream run?"


def _hardware(cv2: Any) -> List[int]:
    """Return what lets FFmpeg take a hardware decoder (VAAPI, D3D11, ...); it falls back to software by itself."""
    return [cv2.CAP_PROP_HW_ACCELERATION, cv2.VIDEO_ACCELERATION_ANY]


def open_pipeline(pipeline: str, name: str) -> Capture:
    """Open a GStreamer pipeline that ends in an appsink of BGR pictures; ``name`` is what errors call it."""
    require_gstreamer(name)
    cv2 = require("cv2", name)
    return opened(
        cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER),
        f"{name} cannot be opened by GStreamer: does the camera or stream run, and are the elements installed? "
        "GST_DEBUG=2 and OPENCV_LOG_LEVEL=WARNING in the environment say more.",
    )


def opened(capture: Any, complaint: str) -> Capture:
    """Return the capture; raises SourceError with the complaint where it is not open."""
    if not capture.isOpened():
        raise SourceError(complaint)
    checked: Capture = capture
    return checked


def fps_of(capture: Capture) -> float:
    """Return the frames a second that a capture claims, or FALLBACK_FPS where it names none that can be."""
    claimed = capture.get(require("cv2", "reading a video").CAP_PROP_FPS)
    return claimed if 0 < claimed <= MAX_FPS else FALLBACK_FPS
