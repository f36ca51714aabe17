"""A video file that plays as a camera, again and again at its own speed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from media import write_clip, write_fake_model

from edgedet import cli
from edgedet.stream.cameras.capture import open_video
from edgedet.stream.cameras.looped import LoopedVideo

pytest.importorskip("cv2", reason="videos are read by OpenCV")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_clip(Path("clip.avi"), frames=5, fps=25.0)
    write_fake_model(Path("model.fake"))
    return tmp_path


def test_frames_come_when_they_are_due_and_begin_again(folder):
    looped = LoopedVideo(lambda: open_video(Path("clip.avi")))
    began = time.monotonic()
    levels = []
    for _ in range(12):
        ok, bgr = looped.read()
        assert ok
        levels.append(round(float(bgr.mean()), -1))
    assert looped.grab()
    seconds = time.monotonic() - began
    looped.release()
    assert levels == [0, 10, 20, 30, 40, 0, 10, 20, 30, 40, 0, 10]
    assert seconds >= 13 / 25 - 0.02


def test_a_run_takes_it_as_a_camera_that_never_ends(folder, capsys):
    """12 frames of a clip of 5; a loop is no fault here."""
    options = ["--source", "clip.avi", "--loop", "--limit", "12", "--timeout", "0.2", "--jsonl", "out.jsonl"]
    assert cli.main(["run", "model.fake", "--threads", "1", *options]) == 0
    assert len(Path("out.jsonl").read_text().splitlines()) == 12
    assert "clip.avi: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--source", "."], "--loop plays a video file again and again; . is none."),
        (["--source", "nothing.mp4"], "--loop plays a video file again and again; nothing.mp4 is none."),
        (["--camera", "0"], "--loop is for a video file, and cameras do not end: leave it out."),
        ([], "nothing to look at: name --source FILE, FOLDER or URL, or --camera 0."),
    ],
)
def test_what_cannot_be_looped_is_refused_in_one_line(folder, capsys, options, line):
    assert cli.main(["run", "model.fake", "--loop", *options]) == 2
    assert capsys.readouterr().err == f"edgedet: {line}\n"
