"""What `edgedet run` makes of one camera and of several, of a gap and of a camera that is gone."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from camera_runs import lines_of, run
from cameras import mjpeg_camera
from media import frames_of, write_clip
from waiting import wait_until

from edgedet import cli
from edgedet.stream.outputs.video_file import is_whole

pytest.importorskip("cv2", reason="edgedet run reads and writes by OpenCV")


def with_password(camera):
    return camera.url.replace("http://", "http://admin:s3cret@") + "?pwd=s3cret"


def test_a_camera_is_recorded_and_logged_and_no_password_is_told(folder, capsys):
    with mjpeg_camera() as camera:
        options = ["--save", "out/front.mkv", "--jsonl", "out.jsonl", "--json", "figures.json", "--limit", 15]
        assert run("--camera", with_password(camera), *options) == 0
        name = f"{camera.url}?pwd=..."
    lines = lines_of("out.jsonl")
    assert len(lines) == 15
    assert {line["camera"] for line in lines} == {name}
    assert lines[0]["time_s"] == 0
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["utc"]) for line in lines)
    assert all(0 < line["age_ms"] < 1000 for line in lines)
    assert all(len(line["detections"]) == 2 for line in lines)
    (recording,) = Path("out").iterdir()
    assert re.fullmatch(r"front-\d{8}T\d{9}Z-000001\.mkv", recording.name)
    assert is_whole(recording)
    assert int(lines[-1]["time_s"] * 10) <= len(frames_of(recording)[0]) <= lines[-1]["time_s"] * 10 + 1  # in real time
    figures = json.loads(Path("figures.json").read_text())
    (one,) = figures["cameras"]
    assert (one["name"], one["processed"], one["gaps"]) == (name, 15, 0)
    assert one["captured"] == one["processed"] + one["dropped"]
    assert one["age_p50_ms"] <= one["age_p99_ms"]
    captured = capsys.readouterr()
    assert f"{name}: {one['captured']} captured, 15 processed, " in captured.out
    told = captured.out + captured.err + Path("out.jsonl").read_text() + Path("figures.json").read_text()
    assert "s3cret" not in told


def test_two_cameras_share_one_detector(folder, capsys):
    """One is twice as fast; both are looked at in turn, with files of their own."""

    def cameras_seen():
        text = Path("out.jsonl").read_text() if Path("out.jsonl").exists() else ""
        whole = text[: text.rfind("\n") + 1]  # the last line may not be written to its end
        return [json.loads(line)["camera"] for line in whole.splitlines()]

    def end_when_both_were_seen():
        wait_until(lambda: min(map(cameras_seen().count, ("door", "yard"))) >= 5)
        os.kill(os.getpid(), signal.SIGINT)

    with mjpeg_camera(100) as fast, mjpeg_camera(50) as slow:
        meanwhile = threading.Thread(target=end_when_both_were_seen)
        meanwhile.start()
        options = ["--save", "recordings", "--jsonl", "out.jsonl", "--save-fps", 50]
        assert run("--camera", f"door={fast.url}", "--camera", f"yard={slow.url}", *options) == 128 + signal.SIGINT
        meanwhile.join()
    together = cameras_seen()
    together = together[max(together.index("door"), together.index("yard")) :]  # one may have started earlier
    assert together.count("yard") > len(together) / 10
    assert {path.name.split("-")[0] for path in Path("recordings").iterdir()} == {"door", "yard"}
    out = capsys.readouterr().out
    assert "\ndoor: " in out
    assert "\nyard: " in out


def after_a_line(*steps):
    """Do the steps in a thread, once the run has written of a frame."""

    def work():
        wait_until(lambda: Path("out.jsonl").exists() and Path("out.jsonl").stat().st_size)
        for step in steps:
            step()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_gap_is_reported_and_marked(folder, capsys):
    with mjpeg_camera() as camera:
        meanwhile = after_a_line(camera.kill, lambda: time.sleep(0.4), camera.start)
        options = ["--save", "out.mkv", "--jsonl", "out.jsonl", "--max-fps", 20, "--limit", 25]
        assert run("--camera", f"door={camera.url}", *options) == 0
        meanwhile.join()
    gaps = [line["gap"] for line in lines_of("out.jsonl") if "gap" in line]
    assert len(gaps) == 1
    assert gaps[0]["seconds"] > 0.2
    assert gaps[0]["reason"] == "no frame came"
    assert len(list(Path().glob("out-*.mkv"))) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[0] == "edgedet: door: lost: no frame came; opening it again"
    assert re.fullmatch(r"edgedet: door: back after [\d.]+ s", error[1])


def test_a_camera_that_was_given_up_is_a_failure(folder, capsys):
    with mjpeg_camera() as camera:
        meanwhile = after_a_line(camera.kill)
        assert run("--camera", f"door={camera.url}", "--retries", 1, "--jsonl", "out.jsonl") == 1
        meanwhile.join()
    assert "edgedet: 1 failed, " in capsys.readouterr().err
    assert len(lines_of("out.jsonl")) > 0


def test_every_other_frame_of_a_file(folder):
    write_clip(Path("clip.avi"), frames=9)
    assert run("--source", "clip.avi", "--every", 2, "--jsonl", "out.jsonl") == 0
    assert [line["frame"] for line in lines_of("out.jsonl")] == [0, 2, 4, 6, 8]


def test_a_file_by_two_detectors_gives_what_one_gives(folder):
    write_clip(Path("clip.avi"), frames=30)
    for threads in (1, 2):
        options = ["--source", "clip.avi", "--jsonl", f"{threads}.jsonl", "--save", f"{threads}.mp4"]
        assert cli.main(["run", "model.fake", "--threads", str(threads), *options]) == 0
    one, two = (
        [{key: value for key, value in line.items() if key != "timings_ms"} for line in lines_of(f"{threads}.jsonl")]
        for threads in (1, 2)
    )
    assert one == two
    assert [line["frame"] for line in two] == list(range(30))
    assert Path("1.mp4").read_bytes()[-1000:] == Path("2.mp4").read_bytes()[-1000:]
