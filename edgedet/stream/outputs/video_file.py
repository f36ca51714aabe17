"""Write video files that play: which codec a container gets, whole files, files that are there while they grow."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Iterator, Tuple

import numpy as np

from ...errors import InputError, UnavailableError, require
from ...files import atomic_path, unwritable
from .fragments import can_write_fragments, open_fragmented_file

# Container -> codecs, best first, as FourCC. Browsers play H.264 in MP4 and VP8 in WebM; MPEG-4 part 2 ("mp4v") is what
# every OpenCV writes, at a tenth of VP8's work. Milliseconds of one core for a 1280x720 frame on a PC: mp4v 4.4,
# H.264 (x264) 32, VP8 63, VP9 450, Motion JPEG 7 at six times the bytes. OpenCV passes no options on that would change
# this. PyAV's H.264 (``fragments``) takes 8.
CODECS = {".mp4": ("avc1", "mp4v"), ".webm": ("VP80",), ".mkv": ("mp4v",)}
# Room for the index that closes an MP4 file (16 bytes a frame: days of video) and what the encoder still holds.
MIN_FREE_BYTES = 8 << 20
_PROBE_WH = (320, 240)
_STDERR = threading.Lock()


@lru_cache(maxsize=None)
def choose_codec(suffix: str) -> str:
    """Return the codec that this OpenCV writes into a container; raises InputError where it writes none."""
    for codec in CODECS[suffix]:
        if _writes(suffix, codec):
            return codec
    raise InputError(f"this OpenCV writes no {suffix} video: choose one of {', '.join(CODECS)}.")


@lru_cache(maxsize=None)
def choose_recording_suffix() -> str:
    """Return the container for recordings that nobody named: the one that costs the detector least.

    That is MP4 by PyAV, which browsers play, else Matroska with MPEG-4. VP8 and OpenCV's H.264 take 4 to 8 times that.
    """
    return ".mp4" if can_write_fragments() else ".mkv"


@lru_cache(maxsize=None)
def _writes(suffix: str, codec: str) -> bool:
    """Return whether this OpenCV writes such a file: a build may name an encoder whose hardware is not there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"probe{suffix}"
        writer = _open(path, codec, 10.0, _PROBE_WH)
        if writer.isOpened():
            for level in (0, 128, 255):
                writer.write(np.full((_PROBE_WH[1], _PROBE_WH[0], 3), level, np.uint8))
        writer.release()
        return path.exists() and is_whole(path)


def _open(path: Path, codec: str, fps: float, size_wh: Tuple[int, int]) -> Any:
    """Return OpenCV's writer.

    For VP8 in WebM, which works, it prints to stderr each time that the tag is not supported, whatever its log level
    and the codec's spelling.
    """
    cv2 = require("cv2", "writing a video")
    quiet = _stderr_without(b"OpenCV: FFMPEG: ") if path.suffix.lower() == ".webm" else nullcontext()
    with quiet:
        return cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size_wh)


@contextmanager
def _stderr_without(beginning: bytes) -> Iterator[None]:
    """Keep lines with this beginning out of stderr; other lines that come in the block are written after it.

    C code writes to the file descriptor, which all threads share: so one thread at a time, and no line of others is
    lost.
    """
    with _STDERR, tempfile.TemporaryFile() as held_back:
        stderr = os.dup(2)
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            held_back.seek(0)
            kept = b"".join(line for line in held_back if not line.startswith(beginning))
            with suppress(OSError):  # a closed terminal must not end a run of months
                os.write(stderr, kept)
            os.close(stderr)


@contextmanager
def open_video_file(
    path: Path, fps: float, size_wh: Tuple[int, int], grows: bool = False
) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield ``write(picture)`` for (H, W, 3) uint8 BGR; ``path`` is playable when the block ends.

    grows: the file is there under its name from the beginning, and plays as far as it goes, also after a power cut:
           Matroska, WebM, and MP4 where PyAV is there. Else it appears whole when the block ends well, or not at all.
    Raises InputError in one line where the file cannot be written or the disk fills up; a file without a picture is
    removed.
    """
    fragments = grows and path.suffix.lower() == ".mp4" and can_write_fragments()
    if not grows or (path.suffix.lower() == ".mp4" and not fragments):
        with atomic_path(path) as temporary, _opencv_file(path, temporary, fps, size_wh) as write:
            yield _checked(write, path, temporary.parent, size_wh)
        return
    prepare_folder(path)
    try:
        path.touch()
    except OSError as error:
        raise unwritable(path, error) from error
    pictures = 0
    try:
        opened = open_fragmented_file(path, fps, size_wh) if fragments else _opencv_file(path, path, fps, size_wh)
        with opened as write_frame:
            checked = _checked(write_frame, path, path.parent, size_wh)

            def write(picture: np.ndarray) -> None:
                nonlocal pictures
                checked(picture)
                pictures += 1

            yield write
    finally:
        if not pictures:
            with suppress(OSError):
                path.unlink()


def prepare_folder(path: Path) -> None:
    """Make the folder of a video where it is missing; raises InputError in one line where it takes no video."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(path, path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    if not os.access(path.parent, os.W_OK):  # of root, too, where the file system is read-only
        raise UnavailableError(f"cannot write {path}: {path.parent} is read-only. Choose another folder.")


def _checked(
    write: Callable[[np.ndarray], None], path: Path, folder: Path, size_wh: Tuple[int, int]
) -> Callable[[np.ndarray], None]:
    """Return ``write`` behind checks of the disk's room, which OpenCV does not report, and of the pictures' size."""

    def write_checked(picture: np.ndarray) -> None:
        _check_room(path, folder)
        if (picture.shape[1], picture.shape[0]) != size_wh:  # a stream may change its size; a file cannot
            picture = require("cv2", "writing a video").resize(picture, size_wh)
        write(picture)

    return write_checked


def _check_room(path: Path, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise UnavailableError(
            f"cannot write {path}: the disk is full ({free / 1e6:.1f} MB free, {MIN_FREE_BYTES / 1e6:.0f} MB "
            "are kept for closing the file). Choose another folder or free space."
        )


@contextmanager
def _opencv_file(
    path: Path, written: Path, fps: float, size_wh: Tuple[int, int]
) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield OpenCV's write, and check the file at the end, since it reports nothing."""
    codec = choose_codec(path.suffix.lower())
    writer = _open(written, codec, fps, size_wh)
    if not writer.isOpened():
        raise InputError(f"cannot write {path}: this OpenCV writes no {codec} video of {size_wh[0]}x{size_wh[1]}.")
    try:
        yield writer.write
    finally:
        writer.release()
    if not is_whole(written):
        raise UnavailableError(f"cannot write {path}: the written file is cut. Is there a quota or a size limit?")


def is_whole(path: Path) -> bool:
    """Return True for a video file that was closed as it should, by its suffix."""
    with open(path, "rb") as file:
        return is_whole_mp4(file, path.stat().st_size) if path.suffix.lower() == ".mp4" else is_whole_matroska(file)


def is_whole_mp4(file: Any, end: int) -> bool:
    """Return True where the boxes of an MP4 file follow one another to its very end and an index is among them.

    A box is 4 bytes of size and 4 of type; size 1 means 8 more bytes of size (ISO/IEC 14496-12, 4.2).
    """
    types = set()
    at = 0
    while at < end:
        file.seek(at)
        header = file.read(16)
        size = int.from_bytes(header[:4], "big")
        if size == 1:
            size = int.from_bytes(header[8:], "big")
        if size < 8:
            return False
        types.add(header[4:8])
        at += size
    return at == end and {b"moov", b"mdat"} <= types


def is_whole_matroska(file: Any) -> bool:
    """Return True where the segment's size was filled in, which is the last thing that a writer does.

    Of an element, the size follows its id; all ones stand for "not known" (RFC 8794, 6.2; RFC 8794 figure 1: the EBML
    header comes first, then the segment, id 18 53 80 67).
    """
    head = file.read(4096)
    at = head.find(b"\x18\x53\x80\x67")
    return bool(head[:4] == b"\x1a\x45\xdf\xa3" and at > 0 and head[at + 4 : at + 12] != b"\x01" + b"\xff" * 7)
