"""Write results as annotated videos and images, or show them in a window.

A sink is a context manager that yields ``write(result)``. Nothing is created before the first result; all files are
complete after the block. Further sinks: ``jsonl``, ``recording``.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, ContextManager, Iterator, List, Optional, Set

import numpy as np

from ...errors import EdgeDetError, UnsupportedError, require
from ...files import atomic_path
from ...progress import Say
from ...types import Frame, FrameResult
from ..stop import Stop
from .video_file import open_video_file

Write = Callable[[FrameResult], None]
Annotate = Callable[[FrameResult], np.ndarray]  # -> a picture (H, W, 3) uint8 BGR of its own

WINDOW = "edgedet"
_WINDOW_WIDTH = 1280  # at most, to begin with; it can be resized
_KEY_POLL_MS = 50
_QUIT_KEYS = (27, ord("q"))  # 27 is Esc
_RETRY_S = 10.0  # between two tries of an output that cannot be written
# What waits and a file's end take a few frames' time, and seconds where other programs want the cores; after that a
# thread is left behind, as on a disk that hangs. Below the 90 s after which systemd kills.
LONGEST_CLOSE_S = 10.0


def compute_utc(frame: Frame) -> float:
    """Return when a live frame was captured, in seconds since 1970."""
    return time.time() - (time.monotonic() - frame.captured_s)


@contextmanager
def keep_trying(open_sink: Callable[[], ContextManager[Write]], say: Say, failures: List[str]) -> Iterator[Write]:
    """Go on where a sink cannot be written (a full disk, a lost folder), and try it again now and then.

    say:      called with a line when writing fails, and when it works again.
    failures: takes a line for each time that it failed.
    """
    held = ExitStack()
    sink: Optional[Write] = None
    retry_s = 0.0
    failed = 0

    def write(result: FrameResult) -> None:
        nonlocal sink, retry_s, failed
        if failed and time.monotonic() < retry_s:
            failed += 1
            return
        try:
            if sink is None:
                sink = held.enter_context(open_sink())
            sink(result)
            if failed:
                say(f"writing again; {failed} results were not written")
                failed = 0
        except EdgeDetError as error:
            if not failed:
                failures.append(str(error))
                say(f"{str(error).rstrip('.')}; going on without")
            failed += 1
            retry_s = time.monotonic() + _RETRY_S
            sink = None
            with suppress(EdgeDetError):  # the same again, by what could not be finished
                held.close()

    try:
        yield write
    finally:
        try:
            held.close()
        except EdgeDetError as error:
            failures.append(str(error))


@contextmanager
def video_sink(path: Path, fps: float, annotate: Annotate) -> Iterator[Write]:
    """Write every frame of a file into one video at ``fps``."""
    with ExitStack() as opened:
        write_picture: Optional[Callable[[np.ndarray], None]] = None

        def write(result: FrameResult) -> None:
            nonlocal write_picture
            picture = annotate(result)
            if write_picture is None:
                write_picture = opened.enter_context(open_video_file(path, fps, (picture.shape[1], picture.shape[0])))
            write_picture(picture)

        yield write


@contextmanager
def image_sink(path_of: Callable[[str], Path], annotate: Annotate) -> Iterator[Write]:
    """Write each annotated image to ``path_of(its own path)``, in the format of that name."""
    cv2 = require("cv2", "writing images")

    def write(result: FrameResult) -> None:
        path = path_of(result.frame.name)
        _, data = cv2.imencode(path.suffix, annotate(result))
        with atomic_path(path) as temporary:
            temporary.write_bytes(data.tobytes())

    yield write


@contextmanager
def window_sink(annotate: Annotate, wait_for_key: bool, stop: Stop) -> Iterator[Write]:
    """Show each camera in a window; Esc, q or closing it asks to stop. ``wait_for_key``: show the next after a key.

    Raises UnsupportedError where there is no screen, or an OpenCV without windows.
    """
    cv2 = require("cv2", "--show")
    # OpenCV's Qt aborts the whole process where it finds no screen, so that is asked first.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UnsupportedError("--show needs a screen, and DISPLAY names none: use --save, or ssh -X.")
    try:
        cv2.destroyAllWindows()  # there are none; only tells whether this OpenCV knows windows
    except cv2.error:
        raise UnsupportedError("--show needs an OpenCV with windows; this is a headless build: use --save.") from None
    opened: Set[str] = set()

    def open_window(name: str, picture: np.ndarray) -> None:
        cv2.namedWindow(name, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        shrink = min(1.0, _WINDOW_WIDTH / picture.shape[1])
        cv2.resizeWindow(name, round(picture.shape[1] * shrink), round(picture.shape[0] * shrink))
        opened.add(name)

    def write(result: FrameResult) -> None:
        picture = annotate(result)
        name = f"{WINDOW} {result.frame.camera}".strip()
        if name not in opened:
            open_window(name, picture)
        cv2.imshow(name, picture)
        key = cv2.waitKey(1)
        while wait_for_key and key < 0 and _is_open(cv2, name) and not stop():
            key = cv2.waitKey(_KEY_POLL_MS)
        if key in _QUIT_KEYS or not _is_open(cv2, name):
            stop.ask()

    try:
        yield write
    finally:
        cv2.destroyAllWindows()


def _is_open(cv2: Any, name: str) -> bool:
    return bool(cv2.getWindowProperty(name, cv2.WND_PROP_VISIBLE) >= 1)
