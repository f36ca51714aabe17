"""How `edgedet run` ends by a signal, a key or a closed window, and what its files hold then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from media import frames_of, picture, write_clip
from run_command import lines_of, run
from waiting import wait_until

cv2 = pytest.importorskip("cv2", reason="edgedet run reads and writes by OpenCV")


# --- interrupted ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("long") / "long.avi", frames=10_000)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_finishes_the_files(folder, long_clip, number, code):
    """A long clip is interrupted once it has written something: the video plays, the lines are whole and as many."""
    options = ["--source", str(long_clip), "--save", "out.mp4", "--jsonl", "out.jsonl", "--json", "figures.json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-m", "edgedet", "run", "model.fake", *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        lines = Path("out.jsonl")
        wait_until(lambda: process.poll() is not None or (lines.exists() and lines.stat().st_size >= 5000))
        process.send_signal(number)
        out, error = process.communicate()
    assert process.returncode == code, error
    lines = lines_of("out.jsonl")
    assert 0 < len(lines) < 10_000
    assert f"interrupted after {len(lines)} frames in " in out
    assert len(frames_of(folder / "out.mp4")[0]) == len(lines)
    figures = json.loads(Path("figures.json").read_text())
    assert (figures["interrupted"], figures["frames"]) == (True, len(lines))


def test_signals_are_handled_as_before_after_a_run(folder):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert run("--source", "clip.avi", "--limit", 1) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


# --- the window -------------------------------------------------------------------------------------------------


@pytest.fixture
def window(monkeypatch):
    """OpenCV's window replaced by a list of what was shown, because tests have no screen; no key is pressed."""
    shown = []
    monkeypatch.setenv("DISPLAY", ":0")
    for name in ("namedWindow", "resizeWindow", "destroyAllWindows"):
        monkeypatch.setattr(cv2, name, lambda *args: None)
    monkeypatch.setattr(cv2, "imshow", lambda name, bgr: shown.append(bgr))
    monkeypatch.setattr(cv2, "waitKey", lambda ms: -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *args: 1.0)
    return shown


def test_a_key_in_the_window_ends_the_run_and_the_files(folder, window, monkeypatch):
    monkeypatch.setattr(cv2, "waitKey", lambda ms: ord("q") if len(window) == 3 else -1)
    assert run("--source", "clip.avi", "--show", "--save", "out.mp4") == 0
    assert len(window) == 3
    assert len(frames_of(folder / "out.mp4")[0]) == 3


def test_closing_the_window_ends_the_run(folder, window, monkeypatch):
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *args: 0.0 if len(window) == 2 else 1.0)
    assert run("--source", "clip.avi", "--show") == 0
    assert len(window) == 2


def test_an_image_stays_in_the_window_until_a_key_or_a_signal(folder, window, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        assert cv2.imwrite(name, picture(0))
    keys = iter([-1, -1, ord("x"), -1, -1])

    def wait_key(ms):
        if len(window) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return next(keys)

    monkeypatch.setattr(cv2, "waitKey", wait_key)
    assert run("--source", "*.png", "--show", "--jsonl", "out.jsonl") == 143
    assert len(lines_of("out.jsonl")) == len(window) == 2
