"""Write results as JSON lines. Each line is written at once, so that other programs can follow the file."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Sequence

from ...errors import InputError
from ...files import lock_file, sync_to_disk, unwritable
from ...types import FrameResult
from .segments import Keeper
from .sinks import Write, compute_utc

_PARTS_OF_BUDGET = 10  # a file is set aside at this part of what is kept
SYNC_EVERY_S = 1.0  # what a power cut may cost of a camera's lines
_LONGEST_SYNC_S = 2.0  # a disk that hangs is not waited for at the end
_LONGEST_LINE = 1 << 20  # bytes, at the end of a file where a killed process may have left half a line


@contextmanager
def jsonl_sink(path: Path, class_names: Sequence[str], live: bool, keeper: Optional[Keeper] = None) -> Iterator[Write]:
    """Write one JSON line a frame, each whole as soon as it is there, so that other programs may follow the file.

    path: "-" is stdout. Raises InputError where another run writes the same file.

    time_s is media time in files, and seconds since the first frame of a live source. A file's run replaces what was
    there; a live one appends to it, after removing half a line. With a ``keeper`` that has a limit, a file that has
    grown is set aside under the time and counts as a segment.
    """
    to_stdout = str(path) == "-"
    budget = keeper.budget_bytes if keeper and not to_stdout else None
    with ExitStack() as opened, _synced(path, live) as note_line:
        file: Any = None
        started_s: Optional[float] = None

        def write(result: FrameResult) -> None:
            nonlocal file, started_s
            if started_s is None:
                started_s = result.frame.captured_s if live else 0.0
            line = json.dumps(make_line(result, class_names, started_s, live)) + "\n"
            try:
                if file is None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    file = opened.enter_context(_open(path))
                    if not to_stdout and os.path.isfile(path):
                        _claim(file, path)
                        if live:
                            drop_half_line(path)
                        else:
                            file.truncate(0)
                append_whole(file, line.encode())
                note_line()
                if keeper and budget and file.tell() > budget // _PARTS_OF_BUDGET:
                    opened.close()
                    file = None
                    aside = keeper.new(path, compute_utc(result.frame))
                    os.replace(path, aside)
                    sync_to_disk(aside)
                    keeper.done(aside)
                    keeper.prune()
            except OSError as error:
                raise unwritable(path, error) from error

        yield write


@contextmanager
def _synced(path: Path, live: bool) -> Iterator[Callable[[], None]]:
    """Bring a live source's lines to the disk every SYNC_EVERY_S, beside the run: a memory card may take long for it.

    Yields a function to call after each line. A run on a file is not synced, since it can be repeated.
    """
    news, ending = threading.Event(), threading.Event()

    def sync() -> None:
        while not ending.wait(SYNC_EVERY_S):
            if news.is_set():
                news.clear()
                with suppress(OSError):  # it is no file, or it was set aside and is on the disk
                    sync_to_disk(path)

    if not live:
        yield lambda: None
        return
    thread = threading.Thread(target=sync, name="syncing lines", daemon=True)
    thread.start()
    try:
        yield news.set
    finally:
        ending.set()
        thread.join(_LONGEST_SYNC_S)
        with suppress(OSError):
            if not thread.is_alive() and path.is_file():
                sync_to_disk(path)


def _open(path: Path) -> Any:
    if str(path) == "-":
        return open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)
    return open(path, "ab", buffering=0)


def _claim(file: Any, path: Path) -> None:
    """Raise InputError where another run writes the same file: their lines would mix."""
    if not lock_file(file.fileno(), True):
        raise InputError(f"another run writes {path}: give each run a --jsonl of its own.")


def drop_half_line(path: Path) -> None:
    """Remove what stands after the last line's end, which a killed process left."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - _LONGEST_LINE))
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(start + tail.rfind(b"\n") + 1)


def append_whole(file: Any, line: bytes) -> None:
    """Write a line to an unbuffered file, or nothing: a full disk may have taken half of it."""
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


def make_line(result: FrameResult, class_names: Sequence[str], started_s: float, live: bool) -> Dict[str, Any]:
    """Return the content of one frame's JSON line; boxes in pixels of the source, times in the units of their names."""
    frame, detections = result.frame, result.detections
    line: Dict[str, Any] = {"frame": frame.index, "time_s": round(frame.captured_s - started_s, 4)}
    if frame.name:
        line["image"] = frame.name
    if live:
        captured = datetime.fromtimestamp(compute_utc(frame), timezone.utc)
        line.update(camera=frame.camera, utc=f"{captured:%Y-%m-%dT%H:%M:%S}.{captured.microsecond // 1000:03d}Z")
        if result.age_ms is not None:
            line["age_ms"] = round(result.age_ms, 1)
    if frame.gap:
        line["gap"] = {"seconds": round(frame.gap.seconds, 3), "reason": frame.gap.reason}
    track_ids = [-1] * len(detections) if detections.track_ids is None else detections.track_ids.tolist()
    line["detections"] = [
        {
            "class": class_names[class_id],
            "class_id": int(class_id),
            **({"track": track_id} if track_id >= 0 else {}),
            "score": round(float(score), 4),
            "box_xyxy": [round(float(value), 2) for value in box_xyxy],
        }
        for class_id, track_id, score, box_xyxy in zip(
            detections.class_ids, track_ids, detections.scores, detections.boxes_xyxy
        )
    ]
    line["timings_ms"] = {stage: round(ms, 3) for stage, ms in result.timings_ms.items()}
    return line
