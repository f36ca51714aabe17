"""The service of deploy/, installed as docs/web.md says: start, watchdog, faults of the system, rights, the end."""

from __future__ import annotations

import json
import re
import time

import pytest
from documents import commands
from virtual_board import SERVICE, SERVICE_VENV, VirtualBoard

pytestmark = pytest.mark.board

FOLDER = "/var/lib/edgedet"
ARGS = (
    "/opt/edgedet/current/models/model.fake --camera 0 --size 320x180 --camera-fps 5 --web 127.0.0.1:8080 --threads 1 "
    "--jsonl found.jsonl --save recordings/ --segment 3600 --on-write-error go-on"
)
SLOW = "/etc/systemd/system/edgedet.service.d/slow.conf"
DROP_IN = "/run/systemd/system/edgedet.service.d/test.conf"
WATCHDOG_S = 6
READY = 'test "$(systemctl is-active edgedet)" = active'
# As a container's health check; the token is root's to read.
PROBE = "env $(grep ^EDGEDET_TOKEN= /etc/edgedet.env) /opt/edgedet/current/bin/python -m edgedet.web.probe"

ADD_ADDRESS = """
import fcntl, socket, struct
SIOCSIFADDR = 0x8916
address = struct.pack("16sH2s4s8s", b"lo:1", socket.AF_INET, b"", socket.inet_aton("10.77.0.1"), b"")
fcntl.ioctl(socket.socket(), SIOCSIFADDR, address)
"""

IS_WHOLE = """
import pathlib, sys
from edgedet.stream.outputs.video_file import is_whole
print(is_whole(pathlib.Path(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def service(board: VirtualBoard, figure) -> VirtualBoard:
    """The board with the service as documented, running a fake model."""
    for line in commands(*SERVICE):
        if "update.sh" in line:  # was called while the image was made
            board.run("cp -r /mnt/payload/deploy .", user="pi")
            board.run(f"cp /mnt/payload/model.fake {SERVICE_VENV}/models/")
        elif "enable --now" in line:
            board.run(f"sed -i 's|^EDGEDET_ARGS=.*|EDGEDET_ARGS={ARGS}|' /etc/edgedet.env")
            # An emulated processor beside other programs needs longer to start and to complete its files.
            unit = "[Service]\\nTimeoutStartSec=1800\\nTimeoutStopSec=180\\n"
            board.run(f"mkdir -p $(dirname {SLOW}); printf '{unit}' > {SLOW}; systemctl daemon-reload")
            began = time.monotonic()
            board.run(line, user="pi", limit_s=300)  # systemd waits for the first frame
            figure("systemctl enable --now until the first frame, s", round(time.monotonic() - began, 1))
        else:
            board.run(line, user="pi")
    return board


def ended_and_back(board: VirtualBoard, before: int, limit_s: float = 120.0) -> float:
    """Wait until systemd has started the service once more and its first frame came."""
    again = f'test "$(systemctl show edgedet -p NRestarts --value)" -gt {before} && {READY}'
    return board.until(again, limit_s)


def restarts(board: VirtualBoard) -> int:
    return int(board.value("edgedet", "NRestarts"))


@pytest.mark.ci
def test_it_is_ready_with_the_first_frame_and_serves_the_page(service: VirtualBoard):
    assert service.value("edgedet", "StatusText") != ""
    assert json.loads(service.run(PROBE))["healthy"]
    page = service.run("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/")
    token = service.run("sed -n 's/^EDGEDET_TOKEN=//p' /etc/edgedet.env").strip()
    assert len(token) == 32
    assert page == "401"
    command = f"curl -s -o /dev/null -w '%{{http_code}}' -H 'Authorization: Bearer {token}' http://127.0.0.1:8080/"
    assert service.run(command) == "200"


@pytest.mark.ci
def test_it_has_the_least_rights(service: VirtualBoard, figure):
    main = service.value("edgedet", "MainPID")
    status = service.run(f"cat /proc/{main}/status")
    assert re.search(r"^Uid:\s+(?!0\s)\d+", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert service.run("stat -c %a /etc/edgedet.env").strip() == "600"
    text = service.run("systemd-analyze security edgedet --no-pager | tail -n 2")
    found = re.search(r"(\d+\.\d+) (\w+)", text)
    assert found is not None, text
    assert float(found.group(1)) <= 1.9
    figure("systemd-analyze security (0 best, 10 worst)", found.group(0))


@pytest.mark.ci
def test_the_journal_can_be_read(service: VirtualBoard):
    lines = service.run("journalctl -u edgedet -o cat --no-pager").splitlines()
    assert any(line.startswith("model /opt/edgedet/current/models/model.fake:") for line in lines)
    assert all(len(line) < 400 and line.isprintable() for line in lines), lines
    token = service.run("sed -n 's/^EDGEDET_TOKEN=//p' /etc/edgedet.env").strip()
    assert token not in "\n".join(lines)


def test_a_slow_first_frame_is_waited_for_and_a_hung_engine_is_not(service: VirtualBoard, figure):
    # A watchdog that is shorter than the start takes: it counts from the first frame on only.
    unit = f"[Service]\\nWatchdogSec={WATCHDOG_S}\\nTimeoutAbortSec=5\\nCPUQuota=80%%\\n"
    service.run(f"mkdir -p $(dirname {DROP_IN}); printf '{unit}' > {DROP_IN}; systemctl daemon-reload")
    service.run("systemctl restart edgedet", limit_s=240)
    before = restarts(service)
    started_us = int(service.value("edgedet", "ExecMainStartTimestampMonotonic"))
    ready_us = int(service.value("edgedet", "ActiveEnterTimestampMonotonic"))
    slow_s = (ready_us - started_us) / 1e6
    assert slow_s > WATCHDOG_S, "the start was too quick to show anything"
    figure(f"slow first frame, not killed by a watchdog of {WATCHDOG_S} s, after s", round(slow_s, 1))
    # Simulated: the process is stopped, as one whose engine never returns.
    service.run("kill -STOP $(systemctl show edgedet -p MainPID --value)")
    back_s = ended_and_back(service, before)
    figure(f"hung engine, watchdog of {WATCHDOG_S} s, until frames come again, s", round(back_s, 1))
    assert "watchdog" in service.run("journalctl -u edgedet -o cat --no-pager | tail -n 40").lower()
    service.run(f"rm {DROP_IN}; systemctl daemon-reload")


@pytest.mark.ci
def test_after_a_kill_it_comes_back(service: VirtualBoard, figure):
    before = restarts(service)
    service.run("kill -KILL $(systemctl show edgedet -p MainPID --value)")
    figure("kill -9 until frames come again, s", round(ended_and_back(service, before), 1))
    service.json_lines(f"{FOLDER}/found.jsonl")


def test_out_of_memory_ends_the_service_only_and_it_comes_back(service: VirtualBoard, figure):
    before = restarts(service)
    service.run("systemctl set-property --runtime edgedet MemoryMax=30M MemorySwapMax=0")
    service.until(f'test "$(systemctl show edgedet -p NRestarts --value)" -gt {before}', 60)
    service.run("systemctl set-property --runtime edgedet MemoryMax=infinity")
    figure("out of memory until frames come again, s", round(service.until(READY, 90), 1))
    assert "oom" in service.run("journalctl -u edgedet -o cat --no-pager | tail -n 60").lower()
    service.json_lines(f"{FOLDER}/found.jsonl")


def test_a_full_disk_breaks_no_line_and_room_brings_it_back(service: VirtualBoard, figure):
    service.run(f"fallocate -l $(($(df --output=avail -B1 / | tail -n 1) - 4096)) {FOLDER}/../filler; sync")
    service.until("journalctl -u edgedet -o cat --no-pager | grep -i 'no space left'", 60)
    assert service.value("edgedet", "ActiveState") == "active"
    service.run("systemctl restart edgedet", limit_s=240)  # it also starts on a full disk
    service.run(f"rm {FOLDER}/../filler*")
    wanted = len(service.json_lines(f"{FOLDER}/found.jsonl")) + 3
    took = service.until(f'test "$(wc -l < {FOLDER}/found.jsonl)" -ge {wanted}', 60)
    figure("full disk: lines again after room was made, s", round(took, 1))
    service.json_lines(f"{FOLDER}/found.jsonl")


def test_the_clock_may_jump_from_1970_to_today(service: VirtualBoard):
    service.run("date -s @86400 > /dev/null")  # a board without a battery, before the network tells the time
    service.until(f"tail -n 1 {FOLDER}/found.jsonl | grep -q 1970-01-02", 30)
    before = restarts(service)
    service.run("date -s '2026-11-30 12:00:00' > /dev/null")
    service.until(f"tail -n 1 {FOLDER}/found.jsonl | grep -q 2026-11-30", 30)
    lines = service.json_lines(f"{FOLDER}/found.jsonl")
    assert lines[-1]["utc"].startswith("2026-11-30")
    assert 0 <= lines[-1]["age_ms"] < 60_000  # ages are of another clock
    assert restarts(service) == before
    service.run(PROBE)


def test_an_address_that_the_network_brings_late_is_waited_for(service: VirtualBoard):
    service.run("sed -i 's|127.0.0.1:8080|10.77.0.1:8080|' /etc/edgedet.env")
    assert service.ask("systemctl restart edgedet", limit_s=120).code != 0
    before = restarts(service)
    service.until(f'test "$(systemctl show edgedet -p NRestarts --value)" -gt {before}', 90)
    assert "10.77.0.1" in service.run("journalctl -u edgedet -o cat --no-pager | tail -n 20")
    service.run(f"python3 -c '{ADD_ADDRESS}'")
    service.until(READY, 120)
    service.run(f"sed -i 's|^EDGEDET_ARGS=.*|EDGEDET_ARGS={ARGS}|' /etc/edgedet.env")
    service.run("systemctl restart edgedet", limit_s=240)


def test_without_a_camera_it_tries_for_ever_and_a_mistake_in_the_options_ends_it(service: VirtualBoard):
    service.run("echo vivid.0 > /sys/bus/platform/drivers/vivid/unbind")
    restart_fails = service.ask("systemctl restart edgedet", limit_s=120)
    assert restart_fails.code != 0
    before = restarts(service)
    service.until(f'test "$(systemctl show edgedet -p NRestarts --value)" -gt {before}', 90)
    service.run("echo vivid.0 > /sys/bus/platform/drivers/vivid/bind")
    service.until(READY, 120)
    service.run("sed -i 's|^EDGEDET_ARGS=.*|& --score 7|' /etc/edgedet.env")
    assert service.ask("systemctl restart edgedet", limit_s=120).code != 0
    service.until('test "$(systemctl show edgedet -p ActiveState --value)" = failed', 30)
    assert "score" in service.run("journalctl -u edgedet -o cat --no-pager | tail -n 8")
    service.run(f"sed -i 's|^EDGEDET_ARGS=.*|EDGEDET_ARGS={ARGS}|' /etc/edgedet.env")
    service.run("systemctl restart edgedet", limit_s=240)


def test_a_disk_that_becomes_read_only_stops_writing_and_nothing_else(service: VirtualBoard):
    # Simulated: Linux does this by itself where a memory card fails. Nothing but a reboot makes it writable again.
    service.run("echo 1 > /proc/sys/kernel/sysrq; echo u > /proc/sysrq-trigger")
    service.until("! touch /root/probe", 30)
    service.run("sleep 5")
    assert service.value("edgedet", "ActiveState") == "active"
    assert json.loads(service.run(PROBE))["seconds_without_frame"] < 30
    live = ARGS.partition(" --jsonl")[0]
    service.run(f"( echo 'EDGEDET_ARGS={live}'; grep TOKEN= /etc/edgedet.env ) > /run/edgedet.env")
    service.run(f"mkdir -p $(dirname {DROP_IN}); printf '[Service]\nEnvironmentFile=/run/edgedet.env\n' > {DROP_IN}")
    service.run("systemctl daemon-reload; systemctl restart edgedet", limit_s=240)  # without files it also starts
    service.run(PROBE)
    service.must("reboot")
    service.until(READY, 120)
    service.json_lines(f"{FOLDER}/found.jsonl")


@pytest.mark.ci
def test_when_it_is_stopped_the_open_recording_is_completed(service: VirtualBoard):
    wanted = len(service.json_lines(f"{FOLDER}/found.jsonl")) + 5
    service.until(f'test "$(wc -l < {FOLDER}/found.jsonl)" -ge {wanted}')
    newest = service.run(f"ls -t {FOLDER}/recordings/* | head -n 1").strip()
    service.run("systemctl stop edgedet", limit_s=240)
    assert service.run(f"{SERVICE_VENV}/bin/python -c '{IS_WHOLE}' {newest}").strip() == "True"
    service.json_lines(f"{FOLDER}/found.jsonl")
