"""What systemd is told: ready at the first frame, alive while frames flow, the end. Over a real datagram socket."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from cameras import mjpeg_camera
from media import write_fake_model
from web_page import result

from edgedet import cli
from edgedet.stream.outputs.notify import notify_address, notify_sink


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A socket as systemd's, named in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def heard(manager: socket.socket) -> list[str]:
    lines: list[str] = []
    while True:
        try:
            lines += manager.recv(4096).decode().splitlines()
        except BlockingIOError:
            return lines


def test_ready_comes_with_the_first_frame_and_the_watchdog_with_frames_only(manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")  # fed each second
    address = notify_address()
    assert address is not None
    with notify_sink(address) as write:
        assert heard(manager) == []
        write(result())
        assert heard(manager) == ["READY=1", "WATCHDOG=1", "STATUS=the first frame came"]
        write(result())
        assert heard(manager) == []  # too early
        time.sleep(1.1)
        assert heard(manager) == []  # no frame, no food
        write(result())
        assert heard(manager) == ["WATCHDOG=1"]
    assert heard(manager) == ["STOPPING=1"]


def test_without_a_watchdog_or_for_another_process_none_is_fed(manager, monkeypatch):
    for watchdog in ({}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getpid() + 1)}):
        with notify_sink(str(notify_address()), watchdog) as write:
            write(result())
            heard(manager)
            write(result())
            assert heard(manager) == []


def test_a_manager_that_is_gone_ends_no_run(tmp_path: Path):
    with notify_sink(str(tmp_path / "nobody"), {}) as write:
        write(result())


def test_without_systemd_nobody_is_told(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify_address() is None
    assert notify_address({"NOTIFY_SOCKET": "relative"}) is None
    assert notify_address({"NOTIFY_SOCKET": "@abstract"}) == "@abstract"


def test_a_run_tells_its_service_manager(manager, tmp_path, monkeypatch):
    pytest.importorskip("cv2", reason="edgedet run reads by OpenCV")
    monkeypatch.chdir(tmp_path)
    write_fake_model(Path("model.fake"))
    with mjpeg_camera() as camera:
        assert cli.main(["run", "model.fake", "--threads", "1", "--camera", camera.url, "--limit", "5"]) == 0
    assert heard(manager) == ["READY=1", "WATCHDOG=1", "STATUS=the first frame came", "STOPPING=1"]
