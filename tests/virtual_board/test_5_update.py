"""The update in place of docs/web.md: a new wheel and model, and back where the new one fails."""

from __future__ import annotations

from datetime import datetime

import pytest
from virtual_board import LONG, VirtualBoard

pytestmark = pytest.mark.board

LINES = "/var/lib/edgedet/found.jsonl"
ARGS = f"/opt/edgedet/current/models/model.fake --camera 0 --threads 1 --jsonl {LINES}"
NEXT = "/mnt/payload/next"  # a wheel of a later version, and a damaged model
BROKEN = "/mnt/payload/broken"  # a wheel that runs models on files and opens no camera
long = pytest.mark.skipif(not LONG, reason="takes minutes: EDGEDET_BOARD_LONG=1 make board")


@pytest.fixture(scope="module")
def service(board: VirtualBoard) -> VirtualBoard:
    """The service as test_3_service installed it, without options of other tests."""
    if board.ask("true").code:  # test_4_power has shut it down
        board.must("again")
    board.run("rm -rf /run/systemd/system/edgedet.service.d; systemctl daemon-reload")
    board.run(f"sed -i 's|^EDGEDET_ARGS=.*|EDGEDET_ARGS={ARGS}|' /etc/edgedet.env")
    board.run("systemctl restart edgedet", limit_s=300)
    return board


def version(board: VirtualBoard) -> str:
    return board.run("/opt/edgedet/current/bin/edgedet --version").strip()


def longest_silence_s(board: VirtualBoard) -> float:
    times = [datetime.fromisoformat(line["utc"].replace("Z", "+00:00")) for line in board.json_lines(LINES)]
    return max((after - before).total_seconds() for before, after in zip(times, times[1:], strict=False))


@long
def test_a_new_version_takes_over_while_the_old_one_runs(service: VirtualBoard, figure):
    before, current = version(service), service.run("readlink /opt/edgedet/current")
    service.run(f"systemctl stop edgedet; rm -f {LINES}; systemctl start edgedet", limit_s=300)
    answer = service.ask(f"sudo sh deploy/update.sh {NEXT}/edgedet-*.whl", user="pi", limit_s=600)
    assert answer.code == 0, answer.text
    assert version(service) != before
    assert "model.fake" in service.run("ls /opt/edgedet/current/models")  # taken over
    assert service.run("systemctl is-active edgedet").strip() == "active"
    figure("update in place, s", round(answer.seconds))
    figure("frames stop during an update, s", round(longest_silence_s(service), 1))
    assert current.strip() in service.run("ls /opt/edgedet")


@long
def test_a_model_that_does_not_run_is_refused_and_nothing_stops(service: VirtualBoard):
    before, pid = service.run("readlink /opt/edgedet/current"), service.value("edgedet", "MainPID")
    answer = service.ask(f"sudo sh deploy/update.sh {NEXT}/edgedet-*.whl {NEXT}/damaged.tflite", "pi", limit_s=600)
    assert answer.code == 1, answer.text
    assert "damaged.tflite does not run" in answer.text
    assert service.run("readlink /opt/edgedet/current") == before
    assert service.value("edgedet", "MainPID") == pid


def test_a_version_that_does_not_become_ready_goes_back_by_itself(service: VirtualBoard, figure):
    before = service.run("readlink /opt/edgedet/current")
    service.run(f"systemctl stop edgedet; rm -f {LINES}; systemctl start edgedet", limit_s=300)
    answer = service.ask(f"sudo sh deploy/update.sh {BROKEN}/edgedet-*.whl", user="pi", limit_s=900)
    assert answer.code == 1, answer.text
    assert "does not become ready" in answer.text
    assert service.run("readlink /opt/edgedet/current") == before
    assert service.run("systemctl is-active edgedet").strip() == "active"
    count = len(service.json_lines(LINES))
    service.until(f'test "$(wc -l < {LINES})" -gt {count}', 60)
    figure("update that does not start and is taken back, s", round(answer.seconds))
    figure("frames stop meanwhile, s", round(longest_silence_s(service), 1))


@long
def test_a_rollback_returns_to_the_version_before(service: VirtualBoard):
    now = service.run("readlink /opt/edgedet/current")
    answer = service.ask("sudo sh deploy/update.sh --rollback", user="pi", limit_s=300)
    assert answer.code == 0, answer.text
    assert service.run("readlink /opt/edgedet/current") != now
    assert service.run("systemctl is-active edgedet").strip() == "active"
