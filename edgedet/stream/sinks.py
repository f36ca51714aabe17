"""Where results go: annotated videos and images, JSON lines, a window. Knows no source and no model.

A sink is a context manager that yields ``write(result)``. Nothing is created before the first result; what is there
after the block is whole.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Sequence

import numpy as np

from ..errors import InputError, UnsupportedError, require
from ..files import atomic_path
from ..types import FrameResult
from .mp4 import mp4_file
from .stop import Stop

Write = Callable[[FrameResult], None]
Annotate = Callable[[FrameResult], np.ndarray]  # -> a picture (H, W, 3) uint8 BGR of its own

WINDOW = "edgedet"
_WINDOW_WIDTH = 1280  # at most, to begin with; it can be resized
_KEY_POLL_MS = 50
_QUIT_KEYS = (27, ord("q"))  # 27 is Esc


@contextmanager
def video_sink(path: Path, fps: float, live: bool, annotate: Annotate) -> Iterator[Write]:
    """Write one video at ``fps``: every frame of a file, and as much of a live source as keeps real time.

    A live frame is repeated until the next one came, or the video would run as fast as inference is slow.
    """
    with ExitStack() as opened:
        write_picture: Callable[[np.ndarray], None]
        started_s = 0.0
        written = 0

        def write(result: FrameResult) -> None:
            nonlocal write_picture, started_s, written
            picture = annotate(result)
            if not written:
                started_s = result.frame.captured_s
                write_picture = opened.enter_context(mp4_file(path, fps, (picture.shape[1], picture.shape[0])))
            due = int((result.frame.captured_s - started_s) * fps) + 1 if live else written + 1
            for _ in range(written, due):
                write_picture(picture)
                written += 1

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
def jsonl_sink(path: Path, class_names: Sequence[str], live: bool) -> Iterator[Write]:
    """Write one JSON line a frame, each whole as soon as it is there, so that other programs may follow the file.

    time_s is media time in files, and seconds since the first frame of a live source.
    """
    with ExitStack() as opened:
        file: Any = None
        started_s = 0.0

        def write(result: FrameResult) -> None:
            nonlocal file, started_s
            try:
                if file is None:
                    started_s = result.frame.captured_s if live else 0.0
                    path.parent.mkdir(parents=True, exist_ok=True)
                    file = opened.enter_context(open(path, "wb", buffering=0))
                _append_whole(file, (json.dumps(line_of(result, class_names, started_s)) + "\n").encode())
            except OSError as error:
                raise InputError(
                    f"cannot write {path}: {error.strerror or error}. Choose another folder or free space."
                ) from error

        yield write


def _append_whole(file: Any, line: bytes) -> None:
    whole = file.tell() if file.seekable() else None
    try:
        left = line
        while left:
            left = left[file.write(left) :]
    except OSError:
        if whole is not None:
            with suppress(OSError):
                file.truncate(whole)  # a full disk may have taken half of the line
        raise


def line_of(result: FrameResult, class_names: Sequence[str], started_s: float) -> Dict[str, Any]:
    """Return what a JSON line says of one frame; boxes in pixels of the source, times in the units of their names."""
    frame, found = result.frame, result.detections
    line: Dict[str, Any] = {"frame": frame.index, "time_s": round(frame.captured_s - started_s, 4)}
    if frame.name:
        line["image"] = frame.name
    line["detections"] = [
        {
            "class": class_names[class_id],
            "class_id": int(class_id),
            "score": round(float(score), 4),
            "box_xyxy": [round(float(value), 2) for value in box_xyxy],
        }
        for class_id, score, box_xyxy in zip(found.class_ids, found.scores, found.boxes_xyxy)
    ]
    line["timings_ms"] = {stage: round(ms, 3) for stage, ms in result.timings_ms.items()}
    return line


@contextmanager
def window_sink(annotate: Annotate, wait_for_key: bool, stop: Stop) -> Iterator[Write]:
    """Show each frame in a window; Esc, q or closing it asks to stop. With ``wait_for_key`` a frame stays till a key.

    Raises UnsupportedError where there is no screen, or an OpenCV without windows.
    """
    cv2 = require("cv2", "--show")
    # OpenCV's Qt aborts the whole process where it finds no screen, so that is asked first.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UnsupportedError("--show needs a screen, and DISPLAY names none: use --save, or ssh -X.")
    try:
        cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    except cv2.error:
        raise UnsupportedError("--show needs an OpenCV with windows; this is a headless build: use --save.") from None

    sized = False

    def write(result: FrameResult) -> None:
        nonlocal sized
        picture = annotate(result)
        if not sized:
            shrink = min(1.0, _WINDOW_WIDTH / picture.shape[1])
            cv2.resizeWindow(WINDOW, round(picture.shape[1] * shrink), round(picture.shape[0] * shrink))
            sized = True
        cv2.imshow(WINDOW, picture)
        key = cv2.waitKey(1)
        while wait_for_key and key < 0 and _is_open(cv2) and not stop():
            key = cv2.waitKey(_KEY_POLL_MS)
        if key in _QUIT_KEYS or not _is_open(cv2):
            stop.ask()

    try:
        yield write
    finally:
        cv2.destroyAllWindows()


def _is_open(cv2: Any) -> bool:
    return bool(cv2.getWindowProperty(WINDOW, cv2.WND_PROP_VISIBLE) >= 1)
