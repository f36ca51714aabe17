"""What `edgedet run` makes of a video's detections: tracks, events and frames without motion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from media import FPS, picture
from run_command import lines_of, run

from edgedet import cli

cv2 = pytest.importorskip("cv2", reason="edgedet run reads and writes by OpenCV")


def test_objects_keep_their_number_and_are_counted_once(folder, capsys):
    assert run("--source", "clip.avi", "--jsonl", "out.jsonl", "--json", "figures.json") == 0
    lines = lines_of("out.jsonl")
    assert [[found.get("track") for found in line["detections"]] for line in lines] == [[None] * 2] + [[1, 2]] * 11
    assert json.loads(Path("figures.json").read_text())["objects"] == {"person": 1, "car": 1}
    assert "objects: 1 person, 1 car" in capsys.readouterr().out
    assert run("--source", "clip.avi", "--jsonl", "out.jsonl", "--no-track") == 0
    assert all("track" not in found for line in lines_of("out.jsonl") for found in line["detections"])
    assert "objects" not in capsys.readouterr().out


def test_events_of_a_video_are_kept_in_a_folder(folder, capsys):
    assert run("--source", "clip.avi", "--events", "happened") == 0
    assert "events are in happened" in capsys.readouterr().out
    events = lines_of("happened/events.jsonl")
    assert sorted(event["label"] for event in events) == ["car", "person"]
    for event in events:
        assert event["end_s"] - event["start_s"] == pytest.approx(11 / FPS - 1 / FPS, abs=0.01)  # from the second frame
        assert (folder / "happened" / event["snapshot"]).is_file()
        assert (folder / "happened" / event["clips"][0]).is_file()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--source", "clip.avi", "--no-track"], "--events needs tracks"),
        (["--source", "photo.png"], "--events is for videos and cameras"),
    ],
)
def test_events_that_cannot_be_are_refused(folder, capsys, options, line):
    cv2.imwrite("photo.png", picture(100))
    assert run(*options, "--events", "happened") == 2
    assert line in capsys.readouterr().err
    assert not Path("happened").exists()


def test_gate_looks_once_where_nothing_moves_and_gives_the_same_objects(folder):
    still = [picture(100)] * 12
    writer = cv2.VideoWriter("still.avi", cv2.VideoWriter_fourcc(*"MJPG"), FPS, still[0].shape[1::-1])
    for one in still:
        writer.write(one)
    writer.release()
    assert run("--source", "still.avi", "--motion", "--jsonl", "out.jsonl") == 0
    lines = lines_of("out.jsonl")
    assert sum("look" in line["timings_ms"] for line in lines) == 1
    assert all(len(line["detections"]) == 2 for line in lines)


def test_motion_is_calibrated_on_a_clip_and_takes_the_printed_numbers(folder, capsys):
    assert cli.main(["calibrate-motion", "clip.avi", "--model", "model.fake", "--json", "figures.json"]) == 0
    out = capsys.readouterr().out
    numbers = out.split("edgedet run --motion ")[1].strip()
    figures = json.loads(Path("figures.json").read_text())
    assert figures["measured"]["kept"] >= figures["keep"] == 0.99
    assert (figures["frames"], figures["detections"]) == (12, 24)
    assert run("--source", "clip.avi", "--motion", numbers) == 0


@pytest.mark.parametrize("numbers", ["16", "a,b", "0,0.1"])
def test_motion_that_is_no_two_numbers_is_refused(folder, capsys, numbers):
    assert run("--source", "clip.avi", "--motion", numbers) == 2
    assert "motion wants" in capsys.readouterr().err
