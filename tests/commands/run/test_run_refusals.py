"""`edgedet run` on what cannot be used or written: one line, an exit code, and nothing half-written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from media import picture, write_clip
from run_command import run

cv2 = pytest.importorskip("cv2", reason="edgedet run reads and writes by OpenCV")


# --- partly failed ----------------------------------------------------------------------------------------------


def test_a_damaged_image_is_counted_and_named_and_the_rest_is_done(folder, capsys):
    Path("photos").mkdir()
    for name in ("a.png", "c.png"):
        assert cv2.imwrite(f"photos/{name}", picture(0))
    Path("photos/b.png").touch()
    assert run("--source", "photos", "--save", "found", "--json", "figures.json") == 1
    assert sorted(path.name for path in Path("found").iterdir()) == ["a.png", "c.png"]
    error = capsys.readouterr().err.splitlines()
    assert error == ["edgedet: 1 failed, 2 frames done: photos/b.png is empty (0 bytes)."]
    assert json.loads(Path("figures.json").read_text())["failures"] == ["photos/b.png is empty (0 bytes)."]


def test_many_failures_are_counted_and_the_first_are_named(folder, capsys):
    Path("photos").mkdir()
    assert cv2.imwrite("photos/a.png", picture(0))
    for index in range(8):
        Path(f"photos/b{index}.png").touch()
    assert run("--source", "photos") == 1
    error = capsys.readouterr().err
    assert "8 failed, 1 frame done: photos/b0.png is empty (0 bytes); " in error
    assert error.endswith("photos/b4.png is empty (0 bytes); and 3 more.\n")


def test_nothing_readable_is_bad_input(folder, capsys):
    Path("a.png").touch()
    assert run("--source", "a.png", "--save", "found", "--jsonl", "out.jsonl") == 2
    assert capsys.readouterr().err == "edgedet: a.png is empty (0 bytes).\n"
    assert not Path("found").exists()
    assert not Path("out.jsonl").exists()


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "nothing to look at: name --source FILE, FOLDER or URL, or --camera 0."),
        (["--camera", "-1"], "--camera wants a number from 0 up; got -1."),
        (["--source", "missing.mp4"], "there is no missing.mp4"),
        (["--source", "clip.avi", "--limit", "0"], "--limit wants a number from 1 up; got 0."),
        (["--source", "clip.avi", "--threads", "0"], "--threads wants a number from 1 up; got 0."),
        (["--source", "clip.avi", "--score", "40"], "between 0 and 1, both excluded; got 40.0."),
        (
            ["--source", "clip.avi", "--save", "out.avi"],
            "saved as .mp4, .webm, .mkv: wanted --save NAME.mp4, got out.avi.",
        ),
        (
            ["--source", "clip.avi", "--save", "out.txt"],
            "wanted --save NAME.mp4, got out.txt.",
        ),
        (
            ["--source", "clip.avi", "--save", "folder"],
            "wanted --save NAME.mp4, got folder.",
        ),
        (["--source", "clip.avi", "--save", "model.fake/out.mp4"], "cannot write model.fake/out.mp4: "),
        (["--source", "clip.avi", "--jsonl", "model.fake/out.jsonl"], "cannot write model.fake/out.jsonl: "),
        (["--source", "photos", "--save", "out.mp4"], "saved into a folder: wanted --save DIR, got out.mp4."),
        (["--source", "photos", "--save", "photos"], "--save photos would overwrite its own input"),
        (["--source", "photos/a.png", "--save", "./photos/"], "would overwrite its own input"),
        (["--source", "photos/a.png", "--save", "photos/a.png"], "would overwrite its own input"),
        (["--source", "copy.mp4", "--save", "copy.mp4"], "--save copy.mp4 would overwrite its own input"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(folder, capsys, options, complaint):
    Path("photos").mkdir()
    for name in ("a.png", "b.png"):
        assert cv2.imwrite(f"photos/{name}", picture(0))
    write_clip(Path("copy.mp4"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run(*options) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.startswith("edgedet: ")
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_missing_opencv_is_one_line(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert run("--source", "clip.avi") == 2
    assert "needs cv2, which is not installed: pip install" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_leaves_nothing(folder, small_disk, capsys):
    (small_disk / "filler").write_bytes(bytes(6 << 20))
    assert run("--source", "clip.avi", "--save", small_disk / "out.mp4", "--jsonl", small_disk / "out.jsonl") == 4
    error = capsys.readouterr().err
    assert error.startswith(f"edgedet: cannot write {small_disk}/out.mp4: the disk is full (")
    assert error.count("\n") == 1
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (("a.onnx",), "one model runs at a time, but model.fake and a.onnx were named: leave one of them out."),
        (("a.png", "b.png"), "one source is read at a time, but a.png, b.png were named: name one"),
        (("a.png", "--source", "b.png"), "one model runs at a time, but model.fake and a.png were named"),
        ((), "nothing to look at: name --source FILE, FOLDER or URL, or --camera 0."),
    ],
)
def test_one_model_and_one_source_are_wanted(folder, capsys, files, complaint):
    assert run(*files) == 2
    assert capsys.readouterr().err.startswith(f"edgedet: {complaint}")


@pytest.mark.parametrize(
    "options",
    [
        ("clip.avi", "--jsonl", "clip.avi"),
        ("clip.avi", "--json", "model.fake"),
        ("clip.avi", "--jsonl", "x", "--json", "x"),
        ("clip.avi", "--save", "x.mp4", "--jsonl", "x.mp4"),
    ],
)
def test_no_output_replaces_an_input_or_another_output(folder, capsys, options):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(*options) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_limit_beyond_all_numbers_is_one_line(folder, capsys):
    assert run("--source", "clip.avi", "--limit", "9" * 40) == 2
    assert "--limit wants a number up to " in capsys.readouterr().err
