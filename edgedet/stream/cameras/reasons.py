"""Why a stream cannot be opened, from what FFmpeg and OpenCV print, their only place for it.

Use it in a process of its own only, because stdout and stderr belong to the whole process.
"""

from __future__ import annotations

import ctypes
import os
import re
from typing import Tuple, Type

from ...errors import LoginError, SourceError
from .shared_frames import anonymous_file

_QUIET = ("", "-8")  # FFmpeg's level "quiet", as `edgedet run` asks for; other values are the user's
_WARNINGS = "24"  # AV_LOG_WARNING: at this level HTTP's answers are told
# What FFmpeg's RTSP, HTTP and TCP code says, and what a user can do about it; the first that fits.
_REASONS: Tuple[Tuple[str, Type[SourceError], str], ...] = (
    (r"\b401\b|Unauthorized", LoginError, "it refuses the user or password (401)"),
    (r"\b403\b|Forbidden", LoginError, "it refuses this user (403)"),
    (r"\b404\b|Not Found", SourceError, "the host has no such stream (404): is the path right?"),
    (
        r"HTTP error 5\d\d|failed: 5\d\d|Server returned 5",
        SourceError,
        "the host answers with an error of its own (5xx)",
    ),
    (r"Connection refused", SourceError, "the host refuses the connection: is the port right, and does it run?"),
    (r"No route to host|Network is unreachable|Host is down", SourceError, "the host cannot be reached"),
    (r"Failed to resolve hostname|Name or service not known", SourceError, "the host's name is not known (DNS)"),
    (r"Could not find decoder|Could not open codec|Unsupported codec", SourceError, "OpenCV has no decoder for it"),
    (r"timed out|timeout triggered|Immediate exit requested", SourceError, "the host does not answer in time"),
    (r"Protocol not found", SourceError, "OpenCV knows no such protocol"),
    (r"Invalid data found", SourceError, "what it sends is no video"),
)


class OpenCVLog:
    """Collects what OpenCV prints in this process, unless the user wants to see it; make it before importing OpenCV."""

    def __init__(self) -> None:
        """Begin to listen."""
        self._file = None
        if os.environ.get("OPENCV_FFMPEG_LOGLEVEL", "") not in _QUIET or "OPENCV_FFMPEG_DEBUG" in os.environ:
            return
        os.environ.update(OPENCV_FFMPEG_LOGLEVEL=_WARNINGS, OPENCV_LOG_LEVEL="WARNING")
        self._file = open(anonymous_file(), "r+b")  # noqa: SIM115  # for as long as the process lives
        for descriptor in (1, 2):  # OpenCV prints FFmpeg's words to the one, its own to the other
            os.dup2(self._file.fileno(), descriptor)

    def clear(self) -> None:
        """Forget what was printed so far; this also keeps the file small."""
        if self._file is not None:
            _flush()
            os.lseek(2, 0, os.SEEK_SET)
            os.ftruncate(2, 0)

    def explained(self, error: SourceError) -> SourceError:
        """Return the error with a reason, where OpenCV printed one since ``clear``; else the error as it is."""
        if self._file is None or " cannot be opened" not in str(error):
            return error
        _flush()
        text = os.pread(2, 1 << 20, 0).decode("utf-8", "replace")
        name = str(error).partition(" cannot be opened")[0]
        for pattern, kind, reason in _REASONS:
            if re.search(pattern, text):
                return kind(f"{name} cannot be opened: {reason}{'' if reason.endswith('?') else '.'}")
        return error


def _flush() -> None:
    """Let the C library write what it holds back."""
    ctypes.CDLL(None).fflush(None)
