"""Power cuts at random moments: what was closed plays, lines and settings are whole, the service is up again."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest
from virtual_board import LONG, VirtualBoard

from edgedet.stream.outputs.video_file import is_whole

pytestmark = pytest.mark.board

CUTS = 50 if LONG else 4
REBOOTS = 5 if LONG else 1
SEED = int(os.environ.get("EDGEDET_BOARD_SEED", "0")) or random.randrange(1 << 30)
SEGMENT_S = 8
LOST_S = 3.0  # of the open recording and of lines: one second by design, and what two busy cores add
ARGS = (
    "/opt/edgedet/current/models/model.fake --camera 0 --size 640x360 --camera-fps 5 --threads 1 --jsonl found.jsonl "
    f"--save recordings/ --segment {SEGMENT_S} --events events"
)


@pytest.fixture(scope="module")
def recorder(board: VirtualBoard) -> VirtualBoard:
    """The service of test_3_service, which now records, logs and keeps events."""
    board.run("/opt/edgedet/current/bin/pip install av", limit_s=300)
    board.run("rm -rf /run/systemd/system/edgedet.service.d /var/lib/private/edgedet/*; systemctl daemon-reload")
    board.run(f"sed -i 's|^EDGEDET_ARGS=.*|EDGEDET_ARGS={ARGS}|' /etc/edgedet.env; sync")
    board.run("systemctl restart edgedet", limit_s=300)
    return board


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


def ahead_of_this_machine_s(board: VirtualBoard) -> float:
    """How many seconds the board's clock is ahead, as the quickest of some answers tells."""
    answers = []
    for _ in range(3):
        asked_s = time.time()
        board_s = float(board.run("date +%s.%N"))
        answers.append((time.time() - asked_s, board_s - (asked_s + time.time()) / 2))
    return min(answers)[1]


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


def test_power_cuts_cost_seconds_and_break_nothing(recorder: VirtualBoard, tmp_path: Path, figure):
    print(f"EDGEDET_BOARD_SEED={SEED}", flush=True)
    moments = random.Random(SEED)
    began_s = float(recorder.run("date +%s.%N"))
    time.sleep(SEGMENT_S + 4)
    lost: list[dict[str, float]] = []
    for number in range(CUTS):
        time.sleep(moments.uniform(0, SEGMENT_S))
        image = tmp_path / f"cut{number}.raw"
        ahead_s = ahead_of_this_machine_s(recorder)
        cut_s = float(recorder.must("cut", image).text.split()[0]) + ahead_s
        with mounted(image) as root:
            lost.append(check_disk(root, began_s, cut_s))
        image.unlink()
        print(f"cut {number + 1}: {lost[-1]}", flush=True)
    for name in ("recording", "lines"):
        values = sorted(one[name] for one in lost)
        figure(
            f"{CUTS} power cuts, {name} lost, s: median, worst",
            [round(values[len(values) // 2], 1), round(values[-1], 1)],
        )
        assert values[-1] <= LOST_S
    figure("half lines left by power cuts, removed at the next start", int(sum(one["half lines"] for one in lost)))


def test_after_power_cuts_the_service_is_up_again(recorder: VirtualBoard, figure):
    moments = random.Random(SEED + 1)
    boots = []
    for _ in range(REBOOTS):
        time.sleep(moments.uniform(0, SEGMENT_S))
        before = len(recorder.json_lines("/var/lib/edgedet/found.jsonl"))
        recorder.must("unplug")
        boots.append(round(recorder.must("again").seconds))
        recorder.until('test "$(systemctl is-active edgedet)" = active', 240)
        recorder.until(f'test "$(wc -l < /var/lib/edgedet/found.jsonl)" -gt {before}', 120)
        recorder.json_lines("/var/lib/edgedet/found.jsonl")  # none is torn: half a line was removed
        assert recorder.run("systemctl --failed --plain --no-legend").strip() == ""
    figure(f"plug pulled {REBOOTS} times, service up again each time; boots, s", boots)
