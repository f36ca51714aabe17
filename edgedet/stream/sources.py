"""Where frames come from: images, video files, cameras and URLs. Knows no model and no output.

Files give every frame, in order. Live sources give the newest frame only (``live``).
"""

from __future__ import annotations

import glob
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Optional, Protocol, Sequence

import numpy as np

from ..errors import SourceError, require
from ..types import Frame
from .capture import fps_of, open_camera, open_url, open_video
from .live import LiveSource

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
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
    fps: Optional[float]
    total: Optional[int]
    failures: List[str]

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; a failure is noted and the rest goes on."""
        ...

    def close(self) -> None:
        """Let go of the camera or file."""
        ...


def open_source(text: str, stopped: Callable[[], bool]) -> Source:
    """Open an image, a folder or glob of images, a video file, a camera (its number or /dev/videoN), or a URL.

    stopped: asked by live sources while they wait; its True ends their iteration.
    Raises SourceError in one line where there is nothing to read.
    """
    if text.isdigit():
        return LiveSource(f"camera {text}", open_camera(int(text)), stopped)
    if "://" in text:
        return LiveSource(text, open_url(text), stopped)
    path = Path(text)
    if os.path.isdir(text):  # unlike Path.is_dir, False for a name that is too long or has a NUL
        return ImageSource(text, path, _images_among(_listed(path), f"folder {text}"))
    if os.path.isfile(text):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageSource(text, path.parent, [path])
        return VideoSource(path)
    if os.path.exists(text) and stat.S_ISCHR(os.stat(text).st_mode):
        return LiveSource(f"camera {text}", open_camera(text), stopped)
    if glob.has_magic(text):
        found = [Path(name) for name in glob.glob(text, recursive=True)]
        images = _images_among(found, f"pattern {text}")
        return ImageSource(text, Path(os.path.commonpath([image.parent for image in images])), images)
    raise SourceError(f"there is no {text}: wanted an image, a folder, a video, a camera's number or a URL.")


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


class ImageSource:
    """Image files, turned upright where their EXIF data says so."""

    live = False
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


class VideoSource:
    """A video file, every frame."""

    live = False

    def __init__(self, path: Path) -> None:
        """Open the file; raises SourceError where it is empty or no video."""
        self.name = str(path)
        self.failures: List[str] = []
        self._capture = open_video(path)
        self._fps = fps_of(self._capture)
        self.fps: Optional[float] = self._fps
        count = self._capture.get(require("cv2", "reading a video").CAP_PROP_FRAME_COUNT)
        self.total: Optional[int] = int(count) if count > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame; media times count from 0 at the file's constant rate. A cut file is noted as a failure."""
        index = 0
        ok, bgr = self._capture.read()
        while ok:
            yield Frame(bgr, captured_s=index / self._fps, index=index)
            index += 1
            ok, bgr = self._capture.read()
        if index < _WHOLE_SHARE * (self.total or 1):
            self.failures.append(f"{self.name} is cut or damaged: {index} of {self.total or 'its'} frames can be read.")

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()
