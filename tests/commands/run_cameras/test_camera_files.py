"""The files of a run on cameras: appended to, set aside, cut off by a signal, or not to be written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from camera_runs import lines_of, run
from cameras import mjpeg_camera
from media import frames_of
from waiting import wait_until

from edgedet.stream.outputs import sinks, video_file
from edgedet.stream.outputs.video_file import is_whole

pytest.importorskip("cv2", reason="edgedet run reads and writes by OpenCV")


def test_lines_are_appended_to_an_earlier_run_and_half_a_line_is_dropped(folder):
    Path("out.jsonl").write_text('{"frame": 0}\n{"frame": 1}\n{"frame": 2, "detec')
    with mjpeg_camera() as camera:
        assert run("--camera", camera.url, "--jsonl", "out.jsonl", "--limit", 3) == 0
    assert [line["frame"] for line in lines_of("out.jsonl")[:2]] == [0, 1]
    assert len(lines_of("out.jsonl")) == 5


def test_a_log_that_grew_is_set_aside_and_the_oldest_go(folder):
    """A line is some 430 bytes; a tenth of 20 KB is five of them, and ten files are kept."""
    with mjpeg_camera(0) as camera:
        assert run("--camera", camera.url, "--jsonl", "out.jsonl", "--limit", 202, "--keep", "20KB") == 0
    aside = sorted(Path().glob("out-*.jsonl"))
    total = sum(path.stat().st_size for path in [*aside, Path("out.jsonl")])
    assert 15_000 < total < 23_000
    frames = [line["frame"] for path in [*aside, Path("out.jsonl")] for line in lines_of(path)]
    assert frames == sorted(frames)


def test_outputs_that_cannot_be_written_end_the_run_or_not_as_the_user_chose(folder, capsys, monkeypatch):
    monkeypatch.setattr(video_file.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with mjpeg_camera() as camera:
        options = ["--camera", camera.url, "--limit", 5, "--jsonl", "out.jsonl", "--save", "rec/out.mkv"]
        assert run(*options) == 4
        assert "edgedet: cannot write rec/out" in capsys.readouterr().err
        monkeypatch.setattr(sinks, "_RETRY_S", 0.0)
        assert run(*options, "--on-write-error", "go-on") == 1
    assert len(lines_of("out.jsonl")) == 5
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 2
    assert error[0].endswith("going on without")
    assert error[1].startswith("edgedet: 1 failed, 5 frames done: cannot write rec/out")


def test_a_folder_that_is_not_there_yet_does_not_keep_a_run_from_starting(folder, capsys):
    """A disk may be mounted later than the service starts."""
    Path("file").touch()
    with mjpeg_camera() as camera:
        options = ["--camera", camera.url, "--limit", 3, "--jsonl", "out.jsonl", "--save", "file/out.mkv"]
        assert run(*options) == 2
        assert capsys.readouterr().err.startswith("edgedet: cannot write file/out.mkv")
        assert run(*options, "--on-write-error", "go-on") == 1
    assert len(lines_of("out.jsonl")) == 3


@contextmanager
def process(*options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "edgedet", "run", "model.fake", "--threads", "1", *map(str, options)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def wait_for_segments(running, count):
    wait_until(lambda: running.poll() is not None or len(list(Path("rec").glob("cam-*"))) >= count)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_ended_by_a_signal_in_the_middle_of_a_recording(folder, number, code):
    """Asked to end, everything is whole; killed, all but the open segment, and each line."""
    with mjpeg_camera() as camera:
        options = ["--camera", camera.url, "--save", "rec/cam.mkv", "--segment", 0.5, "--jsonl", "out.jsonl"]
        with process(*options) as running:
            wait_for_segments(running, 3)
            running.send_signal(number)
            _, error = running.communicate()
    assert running.returncode == code, error
    lines = lines_of("out.jsonl")
    assert len(lines) >= 10
    segments = sorted(Path("rec").iterdir())
    cut = [path for path in segments if not is_whole(path)]
    assert len(segments) >= 3
    assert cut in ([], segments[-1:]) if number == signal.SIGKILL else cut == []
    assert all(frames_of(path)[0] for path in segments[:-1])  # how many, is a matter of the machine's time
