"""Power cuts at random moments: what was closed plays, lines and settings are whole, the service is up again."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from power_cuts import ARGS, LOST_S, SEGMENT_S, check_disk, mounted
from virtual_board import LONG, VirtualBoard

pytestmark = pytest.mark.board

CUTS = 50 if LONG else 4
REBOOTS = 5 if LONG else 1
SEED = int(os.environ.get("EDGEDET_BOARD_SEED", "0")) or random.randrange(1 << 30)


@pytest.fixture(scope="module")
def recorder(board: VirtualBoard) -> VirtualBoard:
    """The service of test_3_service, which now records, logs and keeps events."""
    board.run("/opt/edgedet/current/bin/pip install av", limit_s=300)
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
