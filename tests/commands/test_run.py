"""`edgedet run` from its options to its files, its summary and its exit code, on a fake model."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from media import FPS, SOURCE_BOXES_XYXY, frames_of, picture, write_clip, write_fake_model
from waiting import wait_until

from edgedet import cli
from edgedet.commands import run as command
from edgedet.errors import MissingDependency
from edgedet.files import lock_file
from edgedet.runner import models
from edgedet.stream.progress import Progress

cv2 = pytest.importorskip("cv2", reason="edgedet run reads and writes by OpenCV")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder with model.fake and clip.avi (12 frames)."""
    monkeypatch.chdir(tmp_path)
    write_fake_model(Path("model.fake"))
    write_clip(Path("clip.avi"))
    return tmp_path


def run(*options, model="model.fake"):
    return cli.main(["run", *([model] if model else []), *map(str, options)])


def lines_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


# --- what is written --------------------------------------------------------------------------------------------


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


# --- which model ------------------------------------------------------------------------------------------------


@pytest.fixture
def exports(folder):
    """Three ONNX files in edgedet-out, the newest damaged, and one that is still being written."""
    engines = pytest.importorskip("test_engines", reason="needs the small ONNX file of test_engines")
    pytest.importorskip("onnxruntime", reason="exports run on onnxruntime")
    Path("edgedet-out").mkdir()
    now = time.time()
    for age_s, name in ((30, "old.onnx"), (20, "new.onnx")):
        engines.write_onnx(Path("edgedet-out") / name)
        os.utime(Path("edgedet-out") / name, (now - age_s, now - age_s))
    for age_s, name in ((10, "damaged.onnx"), (0, ".new-x7.onnx")):
        (Path("edgedet-out") / name).write_bytes(b"half a file")
        os.utime(Path("edgedet-out") / name, (now - age_s, now - age_s))
    return folder


def test_without_a_model_the_newest_usable_export_runs(exports, capsys):
    assert run("--source", "clip.avi", "--limit", 1, model=None) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("model edgedet-out/new.onnx: ")
    assert captured.err.startswith("edgedet: passed over: edgedet-out/damaged.onnx is damaged or no ONNX file: ")
    assert captured.err.count("\n") == 1


def test_a_named_model_that_is_damaged_is_not_replaced(exports, capsys):
    assert run("--source", "clip.avi", model="edgedet-out/damaged.onnx") == 2
    assert "edgedet-out/damaged.onnx is damaged" in capsys.readouterr().err


def test_exports_that_are_all_damaged_are_not_replaced_by_the_demo(exports, capsys):
    for name in ("old.onnx", "new.onnx"):
        (Path("edgedet-out") / name).unlink()
    assert run("--source", "clip.avi", model=None) == 2
    assert "no model in edgedet-out/ can be used" in capsys.readouterr().err.splitlines()[-1]


def test_without_any_export_and_without_litert_the_demo_is_exported(folder, capsys, monkeypatch):
    monkeypatch.setattr(models, "int8_model", lambda: None)
    host = pytest.importorskip("edgedet.export.export_onnx", reason="the demo is exported by host code")
    monkeypatch.setattr(host, "export_demo", lambda out: write_fake_model(out / "demo.fake"))
    assert run("--source", "clip.avi", "--limit", 1, model=None) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("model edgedet-out/demo.fake: ")
    assert "exporting the demo model" in captured.err


def test_without_the_export_packages_one_line_tells_how(folder, capsys, monkeypatch):
    monkeypatch.setattr(models, "int8_model", lambda: None)
    host = pytest.importorskip("edgedet.export.export_onnx", reason="the demo is exported by host code")

    def needs_torch(out):
        raise MissingDependency("exporting the demo model needs torch, which is not installed: pip install X")

    monkeypatch.setattr(host, "export_demo", needs_torch)
    assert run("--source", "clip.avi", model=None) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "edgedet: no model was named and edgedet-out/ holds none: "
        "pip install 'edgedet[tflite]' runs the bundled one. Otherwise "
        "exporting the demo model needs torch, which is not installed: pip install X"
    )


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


def test_a_limit_beyond_all_numbers_is_one_line(folder, capsys):
    assert run("--source", "clip.avi", "--limit", "9" * 40) == 2
    assert "--limit wants a number up to " in capsys.readouterr().err


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
