"""Where frames come from: images, video files, cameras and URLs. Knows no model and no output.

Files give every frame, in order. Live sources give the newest frame only (``live``).
"""

from __future__ import annotations

import glob
import os
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Optional, Protocol, Sequence, Tuple

import numpy as np

from ..errors import InputError, SourceError, require
from ..types import CameraStats, Frame, FrameResult
from .cameras.address import is_pipeline, is_url, public_name, split_camera
from .cameras.camera import Recovery
from .cameras.capture import Capture, CaptureOptions, fps_of, open_pipeline, open_url, open_video
from .cameras.devices import open_csi, open_v4l2, stable_path
from .cameras.isolated import CAN_ISOLATE, IsolatedCamera, OpenCapture
from .cameras.looped import LoopedVideo
from .live import LiveSource, NamedOpener, Say, say_nothing
from .pace import Pace

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".ts")  # of an URL that is a file, not a stream
_WHOLE_SHARE = 0.9  # frame counts are estimates in some containers; a video that ends before this share is cut


class Source(Protocol):
    """Frames in order, once.

    name:         what the user would call it.
    live:         True for cameras and streams: frames that nobody takes are lost.
    fps:          frames a second, None for images.
    total:        number of frames, None where nobody knows.
    failures:     one line each for what could not be read so far.
    """

    name: str
    live: bool
    total: Optional[int]

    @property
    def fps(self) -> Optional[float]:
        """As above."""
        ...

    @property
    def failures(self) -> List[str]:
        """As above."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; a failure is noted and the rest goes on."""
        ...

    def note(self, result: FrameResult) -> None:
        """Take the age of a live frame's result into the figures."""
        ...

    def note_left_out(self, camera: str) -> None:
        """Count a result that a camera's recording left out."""
        ...

    def stats(self) -> List[CameraStats]:
        """Return the figures of each camera, none for files."""
        ...

    def close(self) -> None:
        """Let go of the camera or file; an iteration that runs in another thread ends."""
        ...


@dataclass(frozen=True)
class SourceOptions:
    """How sources are opened, read and kept alive.

    every, max_fps: as in Pace, for each camera or file.
    """

    capture: CaptureOptions = field(default_factory=CaptureOptions)
    recovery: Recovery = field(default_factory=Recovery)
    every: int = 1
    max_fps: Optional[float] = None

    def pace(self) -> Pace:
        """Return a Pace for one source."""
        return Pace(self.every, self.max_fps)


DEFAULTS = SourceOptions()


def open_source(
    text: str, stopped: Callable[[], bool], options: SourceOptions = DEFAULTS, report: Say = say_nothing
) -> Source:
    """Open an image, a folder or glob of images, a video file, or what ``open_cameras`` opens.

    stopped: asked by live sources while they wait; its True ends their iteration.
    report:  called with a line when a camera is lost or is back, from any thread.
    Raises SourceError in one line where there is nothing to read.
    """
    if text.startswith("http") and is_url(text) and text.split("?")[0].lower().endswith(_VIDEO_SUFFIXES):
        return VideoSource(public_name(text), open_url(text, options.capture, live=False), options.pace())
    if _is_live(text):
        return open_cameras([text], stopped, options, report)
    path = Path(text)
    if os.path.isdir(text):  # unlike Path.is_dir, False for a name that is too long or has a NUL
        return ImageSource(text, path, _images_among(_listed(path), f"folder {text}"))
    if os.path.isfile(text):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageSource(text, path.parent, [path])
        return VideoSource(str(path), open_video(path, options.capture), options.pace())
    if glob.has_magic(text):
        found = [Path(name) for name in glob.glob(text, recursive=True)]
        images = _images_among(found, f"pattern {text}")
        return ImageSource(text, Path(os.path.commonpath([image.parent for image in images])), images)
    raise SourceError(f"there is no {text}: wanted an image, a folder, a video, a camera's number or a URL.")


def open_cameras(
    texts: Sequence[str], stopped: Callable[[], bool], options: SourceOptions = DEFAULTS, report: Say = say_nothing
) -> LiveSource:
    """Open cameras: a number or /dev/videoN, csi:N, an RTSP or HTTP URL, or a GStreamer pipeline; NAME=X names it.

    Each is opened and read in a process of its own. Returns at once; the iteration raises the first one's error where
    none can be opened, and reports and tries again those that fail where another one delivers.
    """
    openers: List[NamedOpener] = []
    for text in texts:
        name, open_capture = _camera_of(text, options.capture)
        same = sum(name == other or other.startswith(f"{name} (") for other, _ in openers)
        opener = IsolatedCamera(open_capture, options.recovery.timeout_s) if CAN_ISOLATE else open_capture
        openers.append((f"{name} ({same + 1})" if same else name, opener))
    return LiveSource(openers, stopped, report, options.pace, options.recovery)


def open_looped(
    text: str, stopped: Callable[[], bool], options: SourceOptions = DEFAULTS, report: Say = say_nothing
) -> LiveSource:
    """Open a video file as a camera that shows it again and again, at its own speed.

    Raises SourceError where it is no video file.
    """
    path = Path(text)
    if not os.path.isfile(text) or path.suffix.lower() in IMAGE_SUFFIXES:
        raise SourceError(f"--loop plays a video file again and again; {text} is none.")

    def opener() -> Capture:
        return LoopedVideo(lambda: open_video(path, options.capture))

    recovery = replace(options.recovery, allow_repeats=True)
    return LiveSource([(path.name, opener)], stopped, report, options.pace, recovery)


def _is_live(text: str) -> bool:
    if text.isdigit() or text.startswith("csi:") or is_pipeline(text) or is_url(text):
        return True
    return os.path.exists(text) and stat.S_ISCHR(os.stat(text).st_mode)


def _camera_of(text: str, options: CaptureOptions) -> Tuple[str, OpenCapture]:
    """Return what a camera is called in public, and what opens it, picklable."""
    name, text = split_camera(text)
    if not _is_live(text):
        raise SourceError(
            f"{text} is no camera: wanted a number, /dev/videoN, csi:N, a URL or a GStreamer pipeline; "
            "files go by --source."
        )
    public = public_name(text)
    if is_pipeline(text):
        return name or public, partial(open_pipeline, text, name or public)
    if is_url(text):
        return name or public, partial(open_url, text, options)
    name = name or f"camera {text}"
    if text.startswith("csi:"):
        number = text[len("csi:") :]
        if not number.isdigit():
            raise InputError(f"csi:N wants the number of a connector, as csi:0; got {text}.")
        return name, partial(open_csi, int(number), options)
    return name, partial(open_v4l2, stable_path(int(text)) if text.isdigit() else text, options)


def _images_among(paths: Iterable[Path], where: str) -> List[Path]:
    images = sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not images:
        raise SourceError(f"no images in {where}: wanted files ending in {', '.join(IMAGE_SUFFIXES)}.")
    return images


def _listed(folder: Path) -> List[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise SourceError(f"folder {folder} cannot be read: {error.strerror or error}.") from None


class _Files:
    """What all files share: nothing is lost, and there is no camera to tell of."""

    live = False

    def note(self, result: FrameResult) -> None:
        """Keep no figures."""

    def note_left_out(self, camera: str) -> None:
        """Keep no figures: nothing is left out of a file."""

    def stats(self) -> List[CameraStats]:
        """Return none."""
        return []


class ImageSource(_Files):
    """Image files, turned upright where their EXIF data says so."""

    fps: Optional[float] = None

    def __init__(self, name: str, root: Path, paths: Sequence[Path]) -> None:
        """Take the files in this order; ``root`` is a folder above all of them."""
        self.name = name
        self.root = root
        self.paths = paths
        self.total: Optional[int] = len(paths)
        self.failures: List[str] = []

    def __iter__(self) -> Iterator[Frame]:
        """Yield what can be read."""
        for index, path in enumerate(self.paths):
            try:
                yield Frame(read_image(path), captured_s=0.0, index=index, name=str(path))
            except SourceError as error:
                self.failures.append(str(error))

    def close(self) -> None:
        """Hold nothing."""


def read_image(path: Path) -> np.ndarray:
    """Return (H, W, 3) uint8 BGR; raises SourceError where the file is missing, empty, cut or no image."""
    cv2 = require("cv2", "reading images")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from None
    if not data:
        raise SourceError(f"{path} is empty (0 bytes).")
    bgr = None
    if not is_cut(data):
        with suppress(cv2.error):  # more pixels than OpenCV takes
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise SourceError(f"{path} is damaged or no image.")
    return np.asarray(bgr)


def is_cut(data: bytes) -> bool:
    """Return True for a JPEG or PNG that ends before its end marker; OpenCV 4 would paint the rest of a JPEG grey.

    A JPEG's first scan is found by walking the segments before it (ITU-T T.81 annex B), because a preview in the EXIF
    segment has an end marker of its own; in scans, FF D9 can only be the end.
    """
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if not data.startswith(b"\xff\xd8"):
        return False
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return b"\xff\xd9" not in data[at:]


class VideoSource(_Files):
    """A video file, every frame, or those that its Pace takes."""

    def __init__(self, name: str, capture: Capture, pace: Optional[Pace] = None) -> None:
        """Take over an open capture; ``name`` is the file's path or public address."""
        self.name = name
        self.failures: List[str] = []
        self._capture = capture
        self._pace = pace or Pace()
        self._fps = fps_of(capture)
        self.fps: Optional[float] = self._fps
        count = capture.get(require("cv2", "reading a video").CAP_PROP_FRAME_COUNT)
        self.total: Optional[int] = int(count) if count > 0 else None
        self._reading = threading.Lock()  # the capture must not be let go under a read
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; media times count from 0 at the file's constant rate. A cut file is noted as a failure."""
        index = 0
        while True:
            captured_s = index / self._fps
            taken = self._pace.takes(index, captured_s)
            with self._reading:
                if self._closed:
                    return
                ok, bgr = self._capture.read() if taken else (self._capture.grab(), None)
            if not ok:
                break
            if bgr is not None:
                yield Frame(bgr, captured_s, index)
            index += 1
        if index < _WHOLE_SHARE * (self.total or 1):
            self.failures.append(f"{self.name} is cut or damaged: {index} of {self.total or 'its'} frames can be read.")

    def close(self) -> None:
        """Let go of the file."""
        with self._reading:
            self._closed = True
            self._capture.release()
