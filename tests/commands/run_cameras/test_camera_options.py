"""Options and configurations of runs on cameras: refused in one line, and read again while it runs."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from camera_runs import lines_of, run
from cameras import mjpeg_camera
from media import write_clip
from waiting import wait_until

from edgedet import cli
from edgedet.events.store import read_events

pytest.importorskip("cv2", reason="edgedet run reads and writes by OpenCV")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--camera", "clip.avi"], "clip.avi is no camera"),
        (["--source", "clip.avi", "--keep", "1GB"], "--keep is for cameras"),
        (["--source", "clip.avi", "--every", "0"], "--every wants a number from 1 up; got 0."),
        (["--source", "clip.avi", "--max-fps", "0"], "--max-fps wants a number above 0; got 0.0."),
        (["--source", "clip.avi", "--size", "big"], "--size wants WIDTHxHEIGHT, as 1280x720; got big."),
        (["--source", "clip.avi", "--scale", "512x288"], "--scale is for a Jetson's csi:N cameras and for --decoder"),
        (["--camera", "csi:0", "--scale", "512"], "--scale wants WIDTHxHEIGHT, as 1280x720; got 512."),
        (["--source", "clip.avi", "--retries", "-1"], "--retries wants a number from 0 up; got -1."),
        (["--source", "clip.avi", "--timeout", "0"], "--timeout wants a number above 0"),
        (["--camera", "0", "--keep", "much"], "wanted a size such as 10GB"),
        (["--camera", "csi:0"], "connector of a Jetson or a Raspberry Pi"),
    ],
)
def test_bad_options_are_one_line(folder, capsys, options, complaint):
    write_clip(Path("clip.avi"))
    assert run(*options) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert "s3cret" not in error


@pytest.mark.parametrize(
    ("camera", "complaint"),
    [
        ("999", "camera 999 cannot be opened"),
        ("/dev/v4l/by-id/usb-unplugged", "camera /dev/v4l/by-id/usb-unplugged cannot be opened"),
        ("http://u:s3cret@127.0.0.1:9/x", "http://127.0.0.1:9/x cannot be opened"),
    ],
)
def test_a_camera_that_may_come_later_has_an_exit_code_of_its_own(folder, capsys, camera, complaint):
    """A service starts again after 4, and not after 2: mistakes in the options (the unit of deploy/)."""
    assert run("--camera", camera) == 4
    error = capsys.readouterr().err
    assert complaint in error
    assert "s3cret" not in error


def test_an_address_that_the_network_may_bring_later_has_that_exit_code_too(folder, capsys):
    pytest.importorskip("tornado", reason="--web is served by Tornado")
    token = "0123456789abcdef"
    with mjpeg_camera() as camera:
        web = ["--camera", camera.url, "--token", token, "--web"]
        assert run(*web, "192.0.2.1:0") == 4  # TEST-NET-1: no machine's own (RFC 5737)
        assert "cannot listen on 192.0.2.1:0" in capsys.readouterr().err
        assert run(*web, "no such host:0") == 2


CONFIG = """
model: model.fake
threads: 1
cameras:
  door:
    source: {url}
    {zones}
events: {{folder: happened, clips: {{fps: 0}}}}
"""
EVERYWHERE = "zones: {everywhere: {points: [[0, 0], [1, 0], [1, 1], [0, 1]]}}"


def test_sighup_reads_the_configuration_again_and_keeps_the_streams(folder):
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    config = Path("edgedet.yaml")
    with mjpeg_camera() as camera:
        config.write_text(CONFIG.format(url=camera.url, zones="objects: [person]"))
        with subprocess.Popen(
            [sys.executable, "-m", "edgedet", "run", "--config", "edgedet.yaml"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                wait_until(lambda: read_events(Path("happened")))
                config.write_text(CONFIG.format(url=camera.url, zones="zones: {yard: 7}"))
                process.send_signal(signal.SIGHUP)
                refused = next(line for line in process.stderr if "going on as before" in line)
                config.write_text(CONFIG.format(url=camera.url, zones=EVERYWHERE))
                process.send_signal(signal.SIGHUP)
                assert any("the configuration was read again" in line for line in process.stderr)
                wait_until(lambda: any(event["entered"] for event in read_events(Path("happened"))))
            finally:
                process.send_signal(signal.SIGTERM)
            assert "0 gaps" in process.stdout.read()
    assert re.search(r"edgedet.yaml:\d+: cameras.door.zones.yard: wanted a mapping with points", refused)
    (person,) = [line for line in lines_of("happened/events.jsonl") if line["label"] == "person"]
    assert person["entered"] == ["everywhere"]


def test_class_that_the_model_has_not_is_told(folder, capsys):
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    with mjpeg_camera() as camera:
        Path("edgedet.yaml").write_text(CONFIG.format(url=camera.url, zones="objects: [elephant]"))
        assert cli.main(["run", "--config", "edgedet.yaml"]) == 2
    assert "this model has no class elephant: choose from person, car." in capsys.readouterr().err
