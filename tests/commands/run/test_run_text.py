"""What `edgedet run` prints: its progress, and what it detected."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from media import SOURCE_BOXES_XYXY, picture
from run_command import lines_of, run

from edgedet.commands import run as command
from edgedet.stream.progress import Progress

cv2 = pytest.importorskip("cv2", reason="edgedet run reads and writes by OpenCV")


# --- progress ---------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_rewrites_one_line_on_a_terminal(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    terminal = Terminal()
    progress = Progress(terminal, 200)
    for frames in range(1, 21):  # 20 frames at 10 a second, printed once a quarter of a second has passed
        now[0] = frames / 10
        progress.update(frames, 3)
    progress.close()
    printed = [part for part in terminal.getvalue().replace("\x1b[K", "").split("\r") if part]
    assert printed[0] == "frame 3/200  10.0 FPS  3 found"
    assert len(printed) == 6
    assert "\n" not in terminal.getvalue()


def test_progress_in_a_log_is_a_line_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    log = io.StringIO()
    progress = Progress(log)
    for frames in range(1, 250):
        now[0] = frames / 10
        progress.update(frames, 0)
    progress.close()
    assert log.getvalue() == "frame 100  10.0 FPS  0 found\nframe 200  10.0 FPS  0 found\n"


def test_a_log_that_cannot_be_written_ends_no_run(folder, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgedet.stream.progress._LOG_EVERY_S", 0.0)
    monkeypatch.setattr(sys, "stderr", Full())
    assert run("--source", "clip.avi", "--jsonl", "out.jsonl") == 0
    assert len(lines_of("out.jsonl")) == 12


def test_opencv_keeps_quiet_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("OPENCV_LOG_LEVEL", raising=False)
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "48")
    command._quieten_opencv()
    assert os.environ["OPENCV_LOG_LEVEL"] == "SILENT"
    assert os.environ["OPENCV_FFMPEG_LOGLEVEL"] == "48"


# --- what is printed --------------------------------------------------------------------------------------------


def test_a_pictures_detections_are_printed_with_class_score_and_corners(folder, capsys):
    assert cv2.imwrite("a.png", picture(0))
    assert run("a.png") == 0
    (x1, y1, x2, y2), (u1, v1, u2, v2) = np.round(SOURCE_BOXES_XYXY).astype(int).tolist()
    out = capsys.readouterr().out
    assert f"a.png: 2 detections\n  person  0.90  ({x1}, {y1}) to ({x2}, {y2})\n" in out
    assert f"  car     0.60  ({u1}, {v1}) to ({u2}, {v2})\n1 frame in " in out
    assert "\nboxes: 1 person, 1 car\n" in out


def test_a_picture_without_detections_is_said_to_hold_none(folder, capsys):
    assert cv2.imwrite("a.png", picture(0))
    assert run("a.png", "--score", 0.99) == 0
    assert "\na.png: nothing found\n1 frame in " in capsys.readouterr().out


def test_a_videos_boxes_are_counted_by_class(folder, capsys):
    assert run("clip.avi", "--json", "figures.json") == 0
    out = capsys.readouterr().out
    assert "\nboxes: 12 person, 12 car\n" in out
    assert "clip.avi" not in out  # no line a frame
    assert json.loads(Path("figures.json").read_text())["boxes"] == {"person": 12, "car": 12}
