"""Open a source of frames by its text: images, video files, cameras and URLs.

Files give every frame in order (``file_sources``). Live sources give only the newest frame (``live``).
"""

from __future__ import annotations

import glob
import os
import stat
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Optional, Protocol, Sequence, Tuple

from ..errors import InputError, SourceError
from ..progress import Say, say_nothing
from ..types import Frame, FrameResult
from .camera_stats import CameraStats
from .cameras.address import is_pipeline, is_url, make_file_stem, make_public_name, split_camera
from .cameras.capture import Capture, CaptureOptions, open_pipeline, open_url, open_video
from .cameras.devices import find_stable_path, open_csi, open_v4l2
from .cameras.isolated import CAN_ISOLATE, IsolatedCamera, OpenCapture
from .cameras.looped import LoopedVideo
from .cameras.recovery import Recovery
from .file_sources import ImageSource, VideoSource
from .images import IMAGE_SUFFIXES
from .live import LiveSource, NamedOpener
from .pace import Pace

_VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".ts")  # of an URL that is a file, not a stream


class Source(Protocol):
    """A sequence of frames that can be read once.

    name:     the source's name for messages.
    live:     True for cameras and streams, whose frames are lost when nobody takes them in time.
    fps:      frames a second; None for images.
    total:    number of frames; None where it is unknown.
    failures: a line for each frame or file that could not be read so far.
    """

    name: str
    live: bool
    total: Optional[int]

    @property
    def fps(self) -> Optional[float]:
        """See the class."""
        ...

    @property
    def failures(self) -> List[str]:
        """See the class."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; after a failure, which is noted, the next frame follows."""
        ...

    def note(self, result: FrameResult) -> None:
        """Add the age of a live frame's result to the figures."""
        ...

    def note_left_out(self, camera: str) -> None:
        """Count a result that a camera's recording left out."""
        ...

    def stats(self) -> List[CameraStats]:
        """Return the figures of each camera; for files an empty list."""
        ...

    def close(self) -> None:
        """Close the camera or file; an iteration in another thread ends."""
        ...


@dataclass(frozen=True)
class SourceOptions:
    """How sources are opened, read and kept alive.

    every, max_fps: as for Pace, for each camera or file.
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
    text: str, stopped: Callable[[], bool], options: SourceOptions = DEFAULTS, say: Say = say_nothing
) -> Source:
    """Open an image, a folder or glob of images, a video file, or what ``open_cameras`` opens.

    stopped: live sources call it while they wait; True ends their iteration.
    say:     called with a line when a camera is lost or is back, from any thread, and of a TIFF with several pages.
    Raises SourceError where there is nothing to read.
    """
    if text.startswith("http") and is_url(text) and text.split("?")[0].lower().endswith(_VIDEO_SUFFIXES):
        return VideoSource(make_public_name(text), open_url(text, options.capture, live=False), options.pace())
    if _is_live(text):
        return open_cameras([text], stopped, options, say)
    path = Path(text)
    if os.path.isdir(text):  # unlike Path.is_dir, False for a name that is too long or has a NUL
        return ImageSource(text, path, _select_images(_list_folder(path), f"folder {text}"), say)
    if os.path.isfile(text):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageSource(text, path.parent, [path], say)
        return VideoSource(str(path), open_video(path, options.capture), options.pace())
    if glob.has_magic(text):
        paths = [Path(name) for name in glob.glob(text, recursive=True)]
        images = _select_images(paths, f"pattern {text}")
        return ImageSource(text, Path(os.path.commonpath([image.parent for image in images])), images, say)
    raise SourceError(f"there is no {text}: wanted an image, a folder, a video, a camera's number or a URL.")


def open_cameras(
    texts: Sequence[str], stopped: Callable[[], bool], options: SourceOptions = DEFAULTS, say: Say = say_nothing
) -> LiveSource:
    """Open cameras: a number or /dev/videoN, csi:N, an RTSP or HTTP URL, or a GStreamer pipeline; NAME=X names it.

    Each camera is opened and read in a process of its own, and this returns at once. Where no camera can be opened, the
    iteration raises the first one's error; where at least one delivers frames, it reports the others and tries again.
    Raises InputError where two names that were given differ and would give files of the same name.
    """
    openers: List[NamedOpener] = []
    for text in texts:
        name, open_capture = _choose_opener(text, options.capture)
        opener = IsolatedCamera(open_capture, options.recovery.timeout_s) if CAN_ISOLATE else open_capture
        openers.append((_make_unique(name, split_camera(text)[0] is not None, [other for other, _ in openers]), opener))
    return LiveSource(openers, stopped, say, options.pace, options.recovery)


def _make_unique(name: str, given: bool, others: Sequence[str]) -> str:
    """Return the name, with a number where another camera's files would have the same name.

    given: by the user, who refers to it elsewhere: only the very same name gets a number.
    """
    by_stem = {make_file_stem(other): other for other in others}
    other = by_stem.get(make_file_stem(name))
    if given and other not in (None, name):
        raise InputError(f"the files of cameras {other} and {name} would have the same names: give one another name.")
    unique, number = name, 1
    while make_file_stem(unique) in by_stem:
        number += 1
        unique = f"{name} ({number})"
    return unique


def open_looped(
    text: str, stopped: Callable[[], bool], options: SourceOptions = DEFAULTS, say: Say = say_nothing
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
    return LiveSource([(path.name, opener)], stopped, say, options.pace, recovery)


def _is_live(text: str) -> bool:
    if text.isdigit() or text.startswith("csi:") or is_pipeline(text) or is_url(text):
        return True
    return os.path.exists(text) and stat.S_ISCHR(os.stat(text).st_mode)


def _choose_opener(text: str, options: CaptureOptions) -> Tuple[str, OpenCapture]:
    """Return a camera's public name, and a picklable function that opens it."""
    name, text = split_camera(text)
    missing_device = text.startswith("/dev/") and not os.path.exists(text)  # it may be plugged in later
    if not (_is_live(text) or missing_device):
        raise SourceError(
            f"{text} is no camera: wanted a number, /dev/videoN, csi:N, a URL or a GStreamer pipeline; "
            "files go by --source."
        )
    public = make_public_name(text)
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
    return name, partial(open_v4l2, find_stable_path(int(text)) if text.isdigit() else text, options, name)


def _select_images(paths: Iterable[Path], where: str) -> List[Path]:
    images = sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not images:
        raise SourceError(f"there are no images in {where}: wanted files ending in {', '.join(IMAGE_SUFFIXES)}.")
    return images


def _list_folder(folder: Path) -> List[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise SourceError(f"folder {folder} cannot be read: {error.strerror or error}.") from None
