"""`edgedet run` on files: which videos, pictures, lines and figures it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from media import FPS, SOURCE_BOXES_XYXY, frames_of, picture
from run_command import lines_of, run

from edgedet.files import lock_file

cv2 = pytest.importorskip("cv2", reason="edgedet run reads and writes by OpenCV")


def test_a_video_is_annotated_and_logged(folder, capsys):
    assert run("--source", "clip.avi", "--save", "out/clip.mp4", "--jsonl", "out/clip.jsonl", "--threads", 1) == 0
    frames, fps = frames_of(folder / "out/clip.mp4")
    assert (len(frames), fps) == (12, FPS)
    assert frames[0][144, 64].max() > 100  # the middle of the first box's lower edge
    assert frames[0][20, 240].max() < 30
    lines = lines_of("out/clip.jsonl")
    assert [line["frame"] for line in lines] == list(range(12))
    assert [line["time_s"] for line in lines] == pytest.approx([index / FPS for index in range(12)])
    for line in lines:
        assert [found["class"] for found in line["detections"]] == ["person", "car"]
        assert [found["class_id"] for found in line["detections"]] == [0, 1]
        assert [found["score"] for found in line["detections"]] == [0.9, 0.6]
        np.testing.assert_allclose([found["box_xyxy"] for found in line["detections"]], SOURCE_BOXES_XYXY, atol=0.01)
        assert set(line["timings_ms"]) == {"preprocess", "network", "postprocess", "track"}
        assert "image" not in line
    out = capsys.readouterr().out
    assert "model model.fake: tf_efficientdet_d0, 128x128, 2 classes, fp32, 1 thread\n" in out
    assert "12 frames in " in out
    assert "24 detections" in out
    assert "wrote out/clip.mp4\nwrote out/clip.jsonl\n" in out


def test_images_are_annotated_under_their_names(folder):
    for name in ("photos/a.png", "photos/b.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        assert cv2.imwrite(name, picture(0))
    assert run("--source", "photos", "--save", "found", "--jsonl", "found.jsonl") == 0
    assert sorted(path.name for path in Path("found").iterdir()) == ["a.png", "b.jpg"]
    assert cv2.imread("found/a.png")[144, 64].max() > 100
    assert [line["image"] for line in lines_of("found.jsonl")] == ["photos/a.png", "photos/b.jpg"]


def test_images_of_one_name_in_two_folders_stay_apart(folder):
    for name in ("photos/x/a.png", "photos/y/a.png"):
        Path(name).parent.mkdir(parents=True)
        assert cv2.imwrite(name, picture(0))
    assert run("--source", "photos/*/a.png", "--save", "found") == 0
    assert sorted(map(str, Path("found").rglob("*.png"))) == ["found/x/a.png", "found/y/a.png"]


def test_one_image_may_be_saved_as_a_file(folder):
    assert cv2.imwrite("a.png", picture(0))
    assert run("--source", "a.png", "--save", "b.jpg") == 0
    assert cv2.imread("b.jpg").shape == (192, 256, 3)


def test_the_limit_and_the_score_are_kept(folder):
    assert run("--source", "clip.avi", "--limit", 3, "--score", 0.7, "--jsonl", "out.jsonl") == 0
    lines = lines_of("out.jsonl")
    assert [line["frame"] for line in lines] == [0, 1, 2]
    assert {found["class"] for line in lines for found in line["detections"]} == {"person"}


def test_the_summary_as_json(folder, capsys):
    assert run("--source", "clip.avi", "--json", "figures.json") == 0
    figures = json.loads(Path("figures.json").read_text())
    assert (figures["frames"], figures["detections"], figures["interrupted"]) == (12, 24, False)
    assert figures["fps"] == pytest.approx(12 / figures["seconds"])
    assert list(figures["p50_ms"]) == ["read", "preprocess", "network", "postprocess", "track", "write"]
    assert all(figures["p50_ms"][stage] <= figures["p90_ms"][stage] for stage in figures["p50_ms"])
    capsys.readouterr()
    assert run("--source", "clip.avi", "--json") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 12  # nothing but JSON on stdout


def test_json_lines_go_to_stdout_and_the_text_elsewhere(folder, capfd):
    assert run("--source", "clip.avi", "--limit", 2, "--jsonl", "-") == 0
    printed = capfd.readouterr()
    assert [json.loads(line)["frame"] for line in printed.out.splitlines()] == [0, 1]
    assert "2 frames in" in printed.err
    assert not Path("-").exists()
    assert run("--source", "clip.avi", "--jsonl", "-", "--json") == 2


def test_a_second_run_does_not_mix_its_lines_into_the_firsts(folder, capsys):
    with open("out.jsonl", "ab") as first:
        assert lock_file(first.fileno(), False)
        first.write(b"{}\n")
        first.flush()
        assert run("--source", "clip.avi", "--jsonl", "out.jsonl") == 2
        assert "another run writes out.jsonl: give each run a --jsonl of its own." in capsys.readouterr().err
    assert Path("out.jsonl").read_text() == "{}\n"
    assert run("--source", "clip.avi", "--limit", 2, "--jsonl", "out.jsonl") == 0
    assert len(lines_of("out.jsonl")) == 2
