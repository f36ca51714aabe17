"""What a disk holds after a power cut: recordings, lines, events and settings of a service that recorded on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest

from edgedet.stream.outputs.video_file import is_whole

SEGMENT_S = 8
LOST_S = 3.0  # of the open recording and of lines: one second by design, and what two busy cores add
ARGS = (
    "/opt/edgedet/current/models/model.fake --camera 0 --size 640x360 --camera-fps 5 --threads 1 --jsonl found.jsonl "
    f"--save recordings/ --segment {SEGMENT_S} --events events"
)


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """The files of a disk after its journal was replayed, as at the next start."""
    folder = image.with_suffix(".mounted")
    folder.mkdir()
    done = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine mounts no images: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def started_s(recording: Path) -> float:
    stamp = re.search(r"(\d{8}T\d{6})(\d{3})Z", recording.name)
    assert stamp is not None
    return datetime.strptime(stamp[1], "%Y%m%dT%H%M%S").replace(tzinfo=timezone.utc).timestamp() + int(stamp[2]) / 1e3


def seconds_of(recording: Path) -> float:
    """How many seconds of a recording can be decoded."""
    import cv2

    capture = cv2.VideoCapture(str(recording))
    pictures = 0
    while capture.read()[0]:
        pictures += 1
    fps = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return pictures / fps if pictures else 0.0


def check_disk(root: Path, began_s: float, cut_s: float) -> dict[str, float]:
    """Check all that a power cut may have damaged; return how many seconds the open recording and the lines lack."""
    folder = root / "var/lib/private/edgedet"
    text = (folder / "found.jsonl").read_text()
    whole, _, rest = text.rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    last = datetime.fromisoformat(lines[-1]["utc"].replace("Z", "+00:00")).timestamp() if lines else began_s
    recordings = sorted((folder / "recordings").glob("*.mp4"), key=lambda path: path.name[-10:])
    assert recordings, "nothing was recorded"
    for recording in recordings[:-1]:
        assert seconds_of(recording) > 0, f"{recording.name} was closed and does not play"
        assert is_whole(recording), f"{recording.name} was closed and is cut"
    newest = recordings[-1]
    covered = max(started_s(newest) + seconds_of(newest), *(started_s(r) + seconds_of(r) for r in recordings[:-1]), 0)
    for name in ("events.jsonl",):
        if (folder / "events" / name).exists():
            for line in (folder / "events" / name).read_text().rpartition("\n")[0].splitlines():
                json.loads(line)
    copies = root.parent / "events"
    shutil.copytree(folder / "events", copies, dirs_exist_ok=True)
    for database in copies.glob("*.sqlite"):
        with closing(sqlite3.connect(database)) as events:
            assert events.execute("pragma integrity_check").fetchone() == ("ok",)
    shutil.rmtree(copies)
    assert ARGS in (root / "etc/edgedet.env").read_text()
    assert re.search(r"^EDGEDET_TOKEN=\w{32}$", (root / "etc/edgedet.env").read_text(), re.MULTILINE)
    version = os.readlink(root / "opt/edgedet/current")
    json.loads((root / "opt/edgedet" / version / "models/model.fake").read_text())
    return {"recording": cut_s - covered, "lines": cut_s - last, "half lines": float(bool(rest))}
