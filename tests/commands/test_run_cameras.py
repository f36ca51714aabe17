"""`edgedet run` on cameras: a Motion JPEG camera on loopback, a fake model, real outputs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from cameras import mjpeg_camera
from media import frames_of, write_clip, write_fake_model
from waiting import LAST_RESORT_S, wait_until

from edgedet import cli
from edgedet.engines.fake import FakeEngine
from edgedet.events.store import read_events
from edgedet.runner.run import choose_camera_batch
from edgedet.stream.outputs import recording, sinks, video_file
from edgedet.stream.outputs.video_file import is_whole

cv2 = pytest.importorskip("cv2", reason="edgedet run reads and writes by OpenCV")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "-8")
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "SILENT")
    # On a busy machine an encoder may take seconds; what it leaves out then is tested beside it.
    monkeypatch.setattr(recording, "LONGEST_CLOSE_S", LAST_RESORT_S)
    monkeypatch.setattr(recording, "_LONGEST_LAG_S", LAST_RESORT_S)
    monkeypatch.setattr(recording, "_WAITING", 1000)
    write_fake_model(Path("model.fake"))
    return tmp_path


def run(*options):
    return cli.main(["run", "model.fake", "--threads", "1", *map(str, options)])


def lines_of(path):
    text = Path(path).read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


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


@pytest.mark.parametrize(("options", "most"), [([], 1), (["--batch", "2"], 2), (["--batch", "4"], 2)])
def test_a_model_of_several_pictures_takes_several_cameras_at_once(folder, monkeypatch, options, most):
    """On a CPU where it is asked for; with two cameras never more than two."""
    write_fake_model(Path("many.fake"), max_batch=4)
    batches = []
    infer, infer_batch = FakeEngine.infer, FakeEngine.infer_batch

    def noted(self, pixels):
        batches.append(len(pixels))
        return infer_batch(self, pixels)

    monkeypatch.setattr(FakeEngine, "infer_batch", noted)
    monkeypatch.setattr(FakeEngine, "infer", lambda self, pixels: time.sleep(0.02) or infer(self, pixels))

    def end_when_both_were_seen():
        text = Path("out.jsonl")
        wait_until(lambda: text.exists() and min(map(text.read_text().count, ('"door"', '"yard"'))) >= 5)
        wait_until(lambda: most == 1 or 2 in batches)
        os.kill(os.getpid(), signal.SIGINT)

    with mjpeg_camera() as door, mjpeg_camera() as yard:
        meanwhile = threading.Thread(target=end_when_both_were_seen)
        meanwhile.start()
        cameras = ["--camera", f"door={door.url}", "--camera", f"yard={yard.url}"]
        assert cli.main(["run", "many.fake", *cameras, "--jsonl", "out.jsonl", *options]) == 128 + signal.SIGINT
        meanwhile.join()
    assert all(len(line["detections"]) == 2 for line in lines_of("out.jsonl"))
    assert max(batches, default=1) == most


@pytest.mark.parametrize(
    ("model", "asked", "cameras", "most"),
    [
        ("a.engine", None, 3, 3),
        ("a.engine", None, 9, 4),
        ("a.engine", 1, 3, 1),
        ("a.engine", None, 1, 1),
        ("a.onnx", None, 3, 1),
        ("a.onnx", 2, 3, 2),
    ],
)
def test_a_gpu_takes_all_cameras_at_once_a_cpu_only_if_asked(model, asked, cameras, most):
    options = SimpleNamespace(batch=asked, motion=None, cameras=("c",) * cameras)
    assert choose_camera_batch(options, 4, Path(model)) == most


def test_more_at_once_than_the_model_takes_is_refused(folder, capsys):
    with mjpeg_camera() as camera:
        assert run("--camera", camera.url, "--batch", 3) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edgedet: --batch")]
    assert "--batch wants 1 to 1 pictures for this model; got 3: `edgedet export --batch N` writes a model" in line
