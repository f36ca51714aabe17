"""Power cuts at random moments and a shutdown: what was closed plays, lines and settings are whole."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest
from power_cuts import ARGS, LOST_S, SEGMENT_S, check_disk, mounted, seconds_of
from virtual_board import LONG, PYAV, SERVICE_VENV, VirtualBoard

from edgedet.stream.outputs.video_file import is_whole

pytestmark = pytest.mark.board

CUTS = 50 if LONG else 2
BOOTED = 10 if LONG else 2  # each so many cuts, the board is started again on what is left
WORST_S = LOST_S if LONG else 30.0  # beside CI's other jobs an emulated processor falls behind its camera
LINES = "/var/lib/edgedet/found.jsonl"
RECORDINGS = "/var/lib/edgedet/recordings"
SEED = int(os.environ.get("EDGEDET_BOARD_SEED", "0")) or random.randrange(1 << 30)


@pytest.fixture(scope="module")
def recorder(board: VirtualBoard) -> VirtualBoard:
    """The service of test_3_service, which now records, logs and keeps events."""
    board.run(f"for site in {SERVICE_VENV}/lib/python3*/site-packages; do echo {PYAV} > $site/pyav.pth; done")
    board.run("rm -rf /run/systemd/system/edgedet.service.d /var/lib/private/edgedet/*; systemctl daemon-reload")
    board.run(f"sed -i 's|^EDGEDET_ARGS=.*|EDGEDET_ARGS={ARGS}|' /etc/edgedet.env; sync")
    board.run("systemctl restart edgedet", limit_s=300)
    return board


def ahead_of_this_machine_s(board: VirtualBoard) -> float:
    """How many seconds the board's clock is ahead, as the quickest of some answers tells."""
    answers = []
    for _ in range(3):
        asked_s = time.time()
        board_s = float(board.run("date +%s.%N"))
        answers.append((time.time() - asked_s, board_s - (asked_s + time.time()) / 2))
    return min(answers)[1]


@pytest.mark.ci
def test_power_cuts_cost_seconds_and_break_nothing(recorder: VirtualBoard, tmp_path: Path, figure):
    """Each time qemu is killed, and its disk is looked at as the next start would see it.

    Then recording goes on where the board was saved, with one recording closed and the next one open.
    """
    print(f"EDGEDET_BOARD_SEED={SEED}", flush=True)
    moments = random.Random(SEED)
    began_s = float(recorder.run("date +%s.%N"))
    recorder.until(f'test "$(ls {RECORDINGS} | wc -l)" -ge 2')
    recorder.must("save")
    lost: list[dict[str, float]] = []
    boots: list[int] = []
    for number in range(CUTS):
        recorder.must("unplug")  # where it was started after the cut before
        recorder.must("restore")
        ahead_s = ahead_of_this_machine_s(recorder)
        time.sleep(moments.uniform(0, 1.5 * SEGMENT_S))
        cut_s = time.time() + ahead_s
        recorder.must("unplug")
        image = tmp_path / f"cut{number}.raw"
        recorder.must("disk", image)
        with mounted(image) as root:
            lost.append(check_disk(root, began_s, cut_s))
        image.unlink()
        print(f"cut {number + 1}: {lost[-1]}", flush=True)
        if number % BOOTED == BOOTED - 1:
            boots.append(round(recorder.must("again").seconds))
            check_service(recorder)
    for name in ("recording", "lines"):
        values = sorted(one[name] for one in lost)
        figure(
            f"{CUTS} power cuts, {name} lost, s: median, worst",
            [round(values[len(values) // 2], 1), round(values[-1], 1)],
        )
        assert values[-1] <= WORST_S
    figure("half lines left by power cuts, removed at the next start", int(sum(one["half lines"] for one in lost)))
    figure(f"started again after {len(boots)} of them, service up each time; boots, s", boots)


@pytest.mark.ci
def test_at_shutdown_every_file_is_completed(recorder: VirtualBoard, tmp_path: Path, figure):
    """The board is left off."""
    check_service(recorder)
    newest = recorder.run(f"ls -t {RECORDINGS} | head -n 1").strip()
    answer = recorder.must("halt")
    figure("shutdown, s", round(answer.seconds))
    recorder.must("disk", tmp_path / "halted.raw")
    with mounted(tmp_path / "halted.raw") as root:
        folder = root / "var/lib/private/edgedet"
        text = (folder / "found.jsonl").read_text()
        assert text.endswith("\n")
        assert [json.loads(line) for line in text.splitlines()]
        open_one = folder / "recordings" / newest  # or one that has followed it
        for recording in (folder / "recordings").glob("*.mp4"):
            if recording.stat().st_mtime >= open_one.stat().st_mtime:
                assert is_whole(recording), f"{recording.name} was not completed"
                assert seconds_of(recording) > 0
        hidden = [path for path in folder.rglob(".*") if path.stat().st_mtime > open_one.stat().st_mtime]
        assert not hidden, "temporary files are left"


def check_service(board: VirtualBoard) -> None:
    """After a power cut the service is up by itself and goes on with its lines, of which none is torn."""
    board.until('test "$(systemctl is-active edgedet)" = active', 240)
    before = len(board.json_lines(LINES))  # half a line was removed
    board.until(f'test "$(wc -l < {LINES})" -gt {before}', 120)
    board.json_lines(LINES)
    assert board.run("systemctl --failed --plain --no-legend").strip() == ""
