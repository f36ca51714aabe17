"""Frames from files: image files, and a video file. Every frame is processed, and nothing is lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Iterator, List, Optional, Sequence

from ..errors import SourceError, require
from ..progress import Say, say_nothing
from ..types import Frame, FrameResult
from .camera_stats import CameraStats
from .cameras.capture import Capture, read_fps
from .images import count_pages, read_image
from .pace import Pace

_WHOLE_SHARE = 0.9  # frame counts are estimates in some containers; a video that ends before this share is cut


class _Files:
    """The part that all file sources share: there are no figures of a camera."""

    live = False

    def note(self, result: FrameResult) -> None:
        """Do nothing: files have no figures."""

    def note_left_out(self, camera: str) -> None:
        """Do nothing: of a file no frame is left out."""

    def stats(self) -> List[CameraStats]:
        """Return no figures, since there is no camera."""
        return []


class ImageSource(_Files):
    """Image files, turned upright where their EXIF data says so."""

    fps: Optional[float] = None

    def __init__(self, name: str, root: Path, paths: Sequence[Path], say: Say = say_nothing) -> None:
        """Take the files in this order; ``root`` is a folder above all of them.

        say: called with a line for a file of several pages, of which the first one is read.
        """
        self._say = say
        self.name = name
        self.root = root
        self.paths = paths
        self.total: Optional[int] = len(paths)
        self.failures: List[str] = []

    def __iter__(self) -> Iterator[Frame]:
        """Yield the pictures that can be read; the others are noted as failures."""
        for index, path in enumerate(self.paths):
            try:
                bgr = read_image(path)
            except SourceError as error:
                self.failures.append(str(error))
                continue
            pages = count_pages(path)
            if pages > 1:
                self._say(f"{path} has {pages} pages; only the first one is read")
            yield Frame(bgr, captured_s=0.0, index=index, name=str(path))

    def close(self) -> None:
        """Do nothing: no file is open between two pictures."""


class VideoSource(_Files):
    """The frames of a video file, all or those that its Pace takes."""

    def __init__(self, name: str, capture: Capture, pace: Optional[Pace] = None) -> None:
        """Use an open capture, and close it in the end; ``name`` is the file's path or public address."""
        self.name = name
        self.failures: List[str] = []
        self._capture = capture
        self._pace = pace or Pace()
        self._fps = read_fps(capture)
        self.fps: Optional[float] = self._fps
        count = capture.get(require("cv2", "reading a video").CAP_PROP_FRAME_COUNT)
        self.total: Optional[int] = int(count) if count > 0 else None
        self._reading = threading.Lock()  # the capture must not be released during a read
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
        """Close the file."""
        with self._reading:
            self._closed = True
            self._capture.release()
