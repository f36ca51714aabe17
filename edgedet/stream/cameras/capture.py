"""Open what gives frames: a video file, a network stream, a GStreamer pipeline.

Cameras that sit on the board itself are in ``devices``.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Protocol, Set, Tuple

import numpy as np

from ...errors import SourceError, require
from .address import make_public_name
from .pipelines import is_gstreamer, make_file_pipeline, make_stream_pipeline, require_gstreamer
from .sensor_time import StreamClock, from_driver

TIMEOUT_S = 10.0  # a camera that gives nothing for so long is lost; OpenCV's own timeouts are 30 s
FALLBACK_FPS = 25.0  # where a container or camera names none; only times and the saved video's speed depend on it
MAX_FPS = 1000.0  # more is a broken header
TRANSPORTS = ("tcp", "udp")
PIXEL_FORMATS = ("auto", "MJPG", "YUYV", "NV12", "GREY", "H264")
_PARSED = ("h264", "hevc", "H264", "HEVC")  # codecs of which FFmpeg gives a frame when the next one begins
_WAITED = 0.5  # of a frame's interval: a grab that takes longer waited for the camera, so nothing is queued
_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"  # OpenCV takes FFmpeg's options from here alone, at each opening
_own_options: Set[str] = set()  # those that were put there by this module, not by the user


@dataclass(frozen=True)
class CaptureOptions:
    """How sources are opened.

    size_wh:      requested from a camera, None for its own choice; fps likewise.
    pixel_format: one of PIXEL_FORMATS, of V4L2 cameras.
    transport:    of RTSP: "tcp" loses nothing, "udp" delays nothing.
    timeout_s:    after which a network host, or a camera that runs, counts as lost.
    decoder:      one of ``pipelines.DECODERS``.
    scaled_wh:    size that a pipeline of GStreamer scales pictures to before they are seen; None: as they come.
    """

    size_wh: Optional[Tuple[int, int]] = None
    fps: Optional[float] = None
    pixel_format: str = "auto"
    transport: str = "tcp"
    timeout_s: float = TIMEOUT_S
    decoder: str = "software"
    scaled_wh: Optional[Tuple[int, int]] = None


DEFAULTS = CaptureOptions()


class Capture(Protocol):
    """What sources use of an open camera, stream or video file."""

    def read(self, into: Optional[np.ndarray] = None) -> Tuple[bool, Any]:
        """Return (True, (H, W, 3) uint8 BGR), or (False, None) where no frame comes any more.

        into: memory for the picture, which is used where the back end can and the shape is the picture's.
        """
        ...

    def grab(self) -> bool:
        """Skip one frame, at less cost than reading it; False where no frame comes any more."""
        ...

    def captured_s(self) -> float:
        """Return when the last frame was at the sensor, in ``time.monotonic()``, as far as the back end tells."""
        ...

    def get(self, prop: int) -> float:
        """Return a property, 0 or -1 where it is unknown."""
        ...

    def release(self) -> None:
        """Release the device or file."""
        ...


class OpenCVCapture:
    """A ``cv2.VideoCapture`` that says when its frames were captured: here, when their grab returned."""

    def __init__(self, capture: Any) -> None:
        """Take over an open one."""
        self._capture = capture
        self._grabbed = False  # by ``skip_queue``, and not handed over yet
        self._captured_s = 0.0

    def read(self, into: Optional[np.ndarray] = None) -> Tuple[bool, Any]:
        """Return the next frame."""
        if not self.grab():
            return False, None
        ok, bgr = self._capture.retrieve() if into is None else self._capture.retrieve(into)
        return ok, bgr

    def grab(self) -> bool:
        """Take the next frame, undecoded where the back end can do that."""
        if self._grabbed:
            self._grabbed = False
            return True
        ok = bool(self._capture.grab())
        self._captured_s = self.time_of_frame(time.monotonic())
        return ok

    def captured_s(self) -> float:
        """Return when the last frame was captured."""
        return self._captured_s

    def time_of_frame(self, read_s: float) -> float:
        """Return when the frame that was read at ``read_s`` was captured."""
        return read_s

    def skip_queue(self, opened_in_s: float) -> None:
        """Skip what came while the stream was being opened, until frames have to be waited for."""
        interval_s = 1.0 / read_fps(self)
        waits = 0
        for _ in range(int(opened_in_s / interval_s) + 1):
            began_s = time.monotonic()
            if not self.grab():
                return
            waits = waits + 1 if time.monotonic() - began_s > _WAITED * interval_s else 0
            if waits == 2:  # one may have waited for a busy processor
                self._grabbed = True
                return

    def get(self, prop: int) -> float:
        """Return a property."""
        return float(self._capture.get(prop))

    def release(self) -> None:
        """Release the device or file."""
        self._capture.release()


class DeviceCapture(OpenCVCapture):
    """A V4L2 camera: the driver notes when it got a frame, by the clock of ``time.monotonic()``."""

    def time_of_frame(self, read_s: float) -> float:
        """Return the driver's time."""
        return from_driver(read_s, self.get(require("cv2", "reading a camera").CAP_PROP_POS_MSEC) / 1e3)


class StreamCapture(OpenCVCapture):
    """A network stream by FFmpeg."""

    def __init__(self, capture: Any, is_http: bool = False) -> None:
        """Take over an open one; is_http: over HTTP, where Motion JPEG has no times and FFmpeg counts 25 a second."""
        super().__init__(capture)
        cv2 = require("cv2", "reading a stream")
        codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=False).decode("latin-1")
        self._has_times = not (is_http and codec == "MJPG")
        self._clock = StreamClock(held_frames=int(codec in _PARSED))
        self._position = cv2.CAP_PROP_POS_MSEC

    def time_of_frame(self, read_s: float) -> float:
        """Return the time by the stream's own clock, where it has one."""
        if not self._has_times:
            return read_s
        return self._clock.captured_s(read_s, self.get(self._position) / 1e3)


def open_video(path: Path, options: CaptureOptions = DEFAULTS) -> Capture:
    """Open a video file; raises SourceError where it is empty or no video."""
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes).")
    if is_gstreamer(options.decoder):
        return open_pipeline(make_file_pipeline(str(path), options.decoder, options.scaled_wh), str(path))
    cv2 = require("cv2", "reading a video")
    if options.decoder == "software":
        capture = cv2.VideoCapture(str(path))
    else:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, _hardware(cv2))
    return OpenCVCapture(require_open(capture, f"{path} is damaged or no video that this OpenCV reads."))


def open_url(url: str, options: CaptureOptions = DEFAULTS, live: bool = True) -> Capture:
    """Open a network stream; raises SourceError where it cannot be opened in time.

    live: a camera, of which frames that came during the opening are old; else a file on a server.
    """
    name = make_public_name(url)
    began_s = time.monotonic()
    if is_gstreamer(options.decoder):
        pipeline = make_stream_pipeline(url, options.decoder, options.transport, options.timeout_s, options.scaled_wh)
        return open_pipeline(pipeline, name)
    cv2 = require("cv2", "reading a stream")
    if not cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        return OpenCVCapture(require_open(cv2.VideoCapture(url), _unreachable(name)))
    timeout_ms = round(options.timeout_s * 1000)
    # FFmpeg takes timeouts in the constructor only
    parameters = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    if options.decoder != "software":
        parameters += _hardware(cv2)
    elif live and hasattr(cv2, "CAP_PROP_N_THREADS"):  # OpenCV from 4.5.5
        # FFmpeg decodes a frame a thread, and gives the first when the last thread has one: so many frames of delay
        parameters += [cv2.CAP_PROP_N_THREADS, 1]
    if live:
        _set_transport(options.transport)
    capture = require_open(cv2.VideoCapture(url, cv2.CAP_FFMPEG, parameters), _unreachable(name))
    if not live:
        return OpenCVCapture(capture)
    stream = StreamCapture(capture, is_http=url.lower().startswith(("http://", "https://")))
    stream.skip_queue(time.monotonic() - began_s)
    return stream


def _set_transport(transport: str) -> None:
    """Tell FFmpeg the transport, where the user told it nothing.

    What is set stays: changing it at each opening would be a change under threads that read the environment.
    """
    setting = f"rtsp_transport;{transport}"
    current = os.environ.get(_FFMPEG_OPTIONS)
    if current is None or (current in _own_options and current != setting):
        _own_options.add(setting)
        os.environ[_FFMPEG_OPTIONS] = setting


def _unreachable(name: str) -> str:
    return f"{name} cannot be opened: is the address right, and does the stream run?"


def _hardware(cv2: Any) -> List[int]:
    """Return what lets FFmpeg take a hardware decoder (VAAPI, D3D11, ...); it falls back to software by itself."""
    return [cv2.CAP_PROP_HW_ACCELERATION, cv2.VIDEO_ACCELERATION_ANY]


def open_pipeline(pipeline: str, name: str) -> Capture:
    """Open a GStreamer pipeline that ends in an appsink of BGR pictures; ``name`` is what errors call it."""
    require_gstreamer(name)
    cv2 = require("cv2", name)
    capture = require_open(
        cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER),
        f"{name} cannot be opened by GStreamer: does the camera or stream run, and are the elements installed? "
        "GST_DEBUG=2 and OPENCV_LOG_LEVEL=WARNING in the environment say more.",
    )
    return OpenCVCapture(capture)


def require_open(capture: Any, complaint: str) -> Any:
    """Return the ``cv2.VideoCapture``; raises SourceError with the complaint where it is not open."""
    if not capture.isOpened():
        raise SourceError(complaint)
    return capture


def read_fps(capture: Capture) -> float:
    """Return the frames a second that a capture claims, or FALLBACK_FPS where it names none that can be."""
    claimed = capture.get(require("cv2", "reading a video").CAP_PROP_FPS)
    return claimed if 0 < claimed <= MAX_FPS else FALLBACK_FPS
