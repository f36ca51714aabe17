"""Recordings last as long as what they show, in segments that play, whatever ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from media import CODEC_ERROR, annotate, frames_of, result
from waiting import LAST_RESORT_S, wait_until

from edgedet.errors import InputError
from edgedet.stream.outputs import recording, sinks
from edgedet.stream.outputs import video_file as video_file_module
from edgedet.stream.outputs.fragments import can_write_fragments
from edgedet.stream.outputs.recording import recording_sink
from edgedet.stream.outputs.segments import Keeper
from edgedet.stream.outputs.sinks import keep_trying
from edgedet.stream.outputs.video_file import choose_codec, choose_recording_suffix, is_whole, open_video_file
from edgedet.types import Frame, FrameResult, Gap

cv2 = pytest.importorskip("cv2", reason="OpenCV writes videos")


def shown(level, captured_s, camera="cam", gap=None, size_wh=(256, 192)):
    one = result(level=level, size_wh=size_wh)
    return FrameResult(Frame(one.frame.bgr, captured_s, 0, camera=camera, gap=gap), one.detections)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """On a busy machine an encoder may take seconds; what it leaves out then has tests of its own."""
    monkeypatch.setattr(recording, "_LONGEST_LAG_S", LAST_RESORT_S)


def record(folder, results, fps=10.0, segment_s=60.0, suffix=".mkv", keeper=None):
    """Record every result, however long the encoder takes."""
    left_out = []

    def base_of(camera):
        return folder / f"{camera}{suffix}"

    sink = recording_sink(base_of, lambda: fps, segment_s, keeper or Keeper(), annotate, left_out.append)
    with sink as write:
        for one in results:
            left_out.append(one.frame.camera)
            while left_out:
                left_out.clear()
                write(one)
                time.sleep(0.001 if left_out else 0)


def levels_of(path):
    return [float(frame.mean()) for frame in frames_of(path)[0]]


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4"])
def test_a_recording_keeps_real_time(tmp_path, suffix):
    """At 10 frames a second, captures at 0, 0.3 and 0.5 s fill slots 0 to 2, 3 and 4, 5; one at 0.52 s adds none."""
    results = [shown(level, s) for level, s in ((50, 100.0), (100, 100.3001), (150, 100.5001), (200, 100.52))]
    record(tmp_path, results, suffix=suffix)
    (path,) = tmp_path.iterdir()
    np.testing.assert_allclose(levels_of(path), [50, 50, 50, 100, 100, 150], atol=CODEC_ERROR)
    assert is_whole(path)


def test_a_segment_ends_after_its_time(tmp_path):
    """Ten seconds at one frame a second, four seconds each: 0 to 3, 4 to 7, 8 and 9."""
    record(tmp_path, [shown(10 * n, 100.0 + n) for n in range(10)], fps=1.0, segment_s=4.0)
    lengths = [len(levels_of(path)) for path in sorted(tmp_path.iterdir())]
    assert lengths == [4, 4, 2]


def test_a_segment_lasts_until_the_next_frame_also_where_that_begins_another_one(tmp_path):
    """One frame in 2 s, segments of 4 s at 10 a second: each is full but the last."""
    record(tmp_path, [shown(10 * n, 100.0 + 2 * n) for n in range(5)], segment_s=4.0)
    assert [len(levels_of(path)) for path in sorted(tmp_path.iterdir())] == [40, 40, 1]


def test_an_encoder_that_is_too_slow_begins_a_new_file_with_what_is_new(tmp_path, monkeypatch):
    """It can write 20 of the 100 pictures a second that are due: repeating pictures, it would fall behind for ever."""
    opened = []

    @contextmanager
    def open_slowly(path, fps, size_wh, grows):
        opened.append(path)
        yield lambda picture: time.sleep(0.05)

    monkeypatch.setattr(recording, "open_video_file", open_slowly)
    monkeypatch.setattr(recording, "_LONGEST_LAG_S", 0.2)
    left_out = []
    sink = recording_sink(
        lambda camera: tmp_path / "cam.mkv", lambda: 100.0, 600.0, Keeper(), annotate, left_out.append
    )
    began_s = time.monotonic()
    with sink as write:
        while len(opened) < 3:
            assert time.monotonic() - began_s < LAST_RESORT_S, "it never began a file with what is new"
            write(shown(100, time.monotonic()))
            time.sleep(0.02)
    assert left_out


def test_an_encoder_that_hangs_delays_nobody_and_what_it_misses_is_counted(tmp_path, monkeypatch):
    """One camera's disk hangs: its results are counted, the other camera's are recorded, and closing does not wait."""
    hangs = threading.Event()
    left_out, said = [], []
    monkeypatch.setattr(recording, "LONGEST_CLOSE_S", 0.2)

    def annotate_slowly(one):
        if one.frame.camera == "slow":
            hangs.wait(LAST_RESORT_S)
        return one.frame.bgr

    def base_of(camera):
        return tmp_path / f"{camera}.mkv"

    sink = recording_sink(base_of, lambda: 10.0, 60.0, Keeper(), annotate_slowly, left_out.append, said.append)
    with sink as write:
        for n in range(20):
            write(shown(10 * n, 100.0 + n / 10, "slow"))
            write(shown(10 * n, 100.0 + n / 10, "fast"))
            wait_until(lambda: n < 19 or left_out.count("slow") >= 15)  # noqa: B023
            while left_out and left_out[-1] == "fast":  # a busy machine
                left_out.pop()
                time.sleep(0.01)
                write(shown(10 * n, 100.0 + n / 10, "fast"))
    assert left_out == ["slow"] * len(left_out)
    assert 15 <= len(left_out) <= 16  # four wait, and one may be in hand
    assert "the recording slow was not finished within 0.2 s: its end is missing" in said
    running = [one.name for one in threading.enumerate() if one.name.startswith("recording")]
    assert "recording slow" in running
    hangs.set()
    wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("recording")])
    (fast,) = tmp_path.glob("fast-*")
    assert len(levels_of(fast)) == 20


def test_a_short_recording_is_kept_where_a_busy_machine_takes_seconds_to_write_it(tmp_path, monkeypatch):
    """The encoder gets its first turn 5 s after the end of the run: a simulated clock, no sleep."""
    busy = threading.Event()
    join = threading.Thread.join

    def join_later(thread, timeout=None):
        if not thread.name.startswith("recording"):
            return join(thread, timeout)
        if timeout is None or timeout > 5.0:
            busy.set()
            join(thread)
        return None

    def annotate_later(one):
        busy.wait()
        return one.frame.bgr

    monkeypatch.setattr(threading.Thread, "join", join_later)
    with recording_sink(lambda camera: tmp_path / "cam.mkv", lambda: 10.0, 60.0, Keeper(), annotate_later) as write:
        for n in range(4):
            write(shown(50, 100.0 + n / 10))
    kept = [len(levels_of(path)) for path in tmp_path.iterdir()]
    busy.set()
    assert kept == [4]


def test_a_result_that_cannot_be_drawn_is_told_and_counted_and_the_recording_goes_on_in_a_new_file(tmp_path):
    left_out, said = [], []

    def annotate_or_fail(one):
        if one.frame.captured_s == 100.2:
            raise cv2.error("OpenCV(4.10) resize.cpp:4152:\nerror: (-215:Assertion failed)")
        return one.frame.bgr

    sink = recording_sink(
        lambda camera: tmp_path / "cam.mkv",
        lambda: 10.0,
        60.0,
        Keeper(),
        annotate_or_fail,
        left_out.append,
        said.append,
    )
    with sink as write:
        for n in range(5):
            write(shown(50, round(100.0 + n / 10, 1)))
            wait_until(lambda: n < 3 or left_out)  # noqa: B023  # four may wait
    assert [len(levels_of(path)) for path in sorted(tmp_path.iterdir())] == [2, 2]
    assert left_out == ["cam"]
    assert said == [
        "recording cam: error: OpenCV(4.10) resize.cpp:4152: error: (-215:Assertion failed); going on in a new file"
    ]


def _write_all(sink, results):
    with sink as write:
        for one in results:
            write(one)


def test_a_recording_that_fails_again_and_again_is_declared_lost(tmp_path):
    left_out, said = [], []

    def fail(one):
        raise ValueError("no such colours")

    sink = recording_sink(
        lambda camera: tmp_path / "cam.mkv", lambda: 10.0, 60.0, Keeper(), fail, left_out.append, said.append
    )
    with pytest.raises(InputError, match=r"recording cam: ValueError: no such colours; 3 times in succession"):
        _write_all(sink, [shown(50, 100.0 + n / 10) for n in range(3)])
    assert len(said) == 2
    assert left_out == ["cam"] * 3
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_is_slow_to_open_delays_no_result(tmp_path, monkeypatch):
    """The first results of every camera go on at once: nobody waits for their files."""
    opening, opened = threading.Event(), threading.Event()

    @contextmanager
    def slow_file(*arguments, **options):
        opening.set()
        opened.wait()
        with video_file_module.open_video_file(*arguments, **options) as write:
            yield write

    wait_for = threading.Condition.wait_for

    def wait_elsewhere(condition, predicate, timeout=None):
        assert threading.current_thread() is not threading.main_thread()
        return wait_for(condition, predicate, timeout)

    monkeypatch.setattr(recording, "open_video_file", slow_file)
    monkeypatch.setattr(threading.Condition, "wait_for", wait_elsewhere)
    with recording_sink(lambda camera: tmp_path / f"{camera}.mkv", lambda: 10.0, 60.0, Keeper(), annotate) as write:
        for camera in ("a", "b"):
            write(shown(50, 100.0, camera))
            assert not list(tmp_path.iterdir())
        opening.wait()
        opened.set()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_gap_is_not_forgotten_where_its_frame_found_no_room(tmp_path):
    """The frame after the gap is left out; the one that is recorded next begins the new segment all the same."""
    hold = threading.Event()
    left_out = []

    def annotate_when_told(one):
        hold.wait()
        return one.frame.bgr

    with recording_sink(
        lambda camera: tmp_path / "cam.mkv", lambda: 10.0, 60.0, Keeper(), annotate_when_told, left_out.append
    ) as write:
        n = 0
        while not left_out:
            write(shown(50, 100.0 + n / 10))
            n += 1
        write(shown(60, 3700.0, gap=Gap("no frame came", 3600.0)))
        assert len(left_out) == 2
        hold.set()
        while len(list(tmp_path.iterdir())) < 2:
            write(shown(70, 3700.1 + n / 10))
            n += 1
            time.sleep(0.01)


def test_a_gap_begins_a_new_segment(tmp_path):
    """An hour without pictures is no hour of the same picture."""
    gap = Gap("no frame came", 3600.0)
    record(tmp_path, [shown(50, 100.0), shown(60, 100.1), shown(100, 3700.1, gap=gap), shown(110, 3700.2)])
    assert [len(levels_of(path)) for path in sorted(tmp_path.iterdir())] == [2, 2]


def test_another_size_begins_a_new_segment(tmp_path):
    record(tmp_path, [shown(50, 100.0), shown(60, 100.1, size_wh=(128, 96)), shown(70, 100.2, size_wh=(128, 96))])
    assert sorted(frame.shape for path in tmp_path.iterdir() for frame in frames_of(path)[0]) == [
        (96, 128, 3),
        (96, 128, 3),
        (192, 256, 3),
    ]


def test_each_camera_has_its_own(tmp_path):
    record(
        tmp_path, [shown(level, 100.0 + n / 10, camera) for n in range(3) for camera, level in (("a", 50), ("b", 150))]
    )
    found = {path.name.split("-")[0]: levels_of(path) for path in tmp_path.iterdir()}
    np.testing.assert_allclose(found["a"], [50] * 3, atol=CODEC_ERROR)
    np.testing.assert_allclose(found["b"], [150] * 3, atol=CODEC_ERROR)


def test_the_limit_is_kept_while_recording(tmp_path, monkeypatch):
    """Noise of 640 x 480 takes some 100 KB a frame; 1 MB is kept, the newest."""
    monkeypatch.setattr(recording, "_PRUNE_EVERY_S", 0.0)
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    results = [FrameResult(Frame(noise, 100.0 + n, 0, camera="cam"), result().detections) for n in range(60)]
    record(tmp_path, results, fps=1.0, segment_s=3.0, keeper=Keeper(1_000_000))
    left = sorted(tmp_path.iterdir())
    assert sum(path.stat().st_size for path in left) <= 1_000_000
    assert len(left) >= 2
    assert len(frames_of(left[-1])[0]) == 3


def test_an_error_elsewhere_keeps_what_was_recorded(tmp_path):
    def records_and_fails():
        with recording_sink(lambda camera: tmp_path / "cam.mp4", lambda: 10.0, 60.0, Keeper(), annotate) as write:
            write(shown(50, 100.0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        records_and_fails()
    (path,) = tmp_path.iterdir()
    assert len(levels_of(path)) == 1


def test_a_full_disk_keeps_the_segments_so_far(small_disk):
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    results = [FrameResult(Frame(noise, 100.0 + n, 0, camera="cam"), result().detections) for n in range(100)]
    with pytest.raises(InputError, match="the disk is full"):
        record(small_disk, results, fps=1.0, segment_s=5.0)
    paths = sorted(small_disk.iterdir())
    assert len(paths) > 2
    assert {len(frames_of(path)[0]) for path in paths[:-1]} == {5}


def test_where_the_disk_is_full_the_oldest_go_if_the_user_gave_a_limit(small_disk):
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    results = [FrameResult(Frame(noise, 100.0 + n, 0, camera="cam"), result().detections) for n in range(60)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "_PRUNE_EVERY_S", 0.0)
        record(small_disk, results, fps=1.0, segment_s=3.0, keeper=Keeper(10**9, reserve_bytes=4_500_000))
    assert len(frames_of(sorted(small_disk.iterdir())[-1])[0]) == 3


def test_going_on_without_a_disk_and_again_with_one(tmp_path, monkeypatch):
    """A file stands where the folder is wanted; when it is gone, the recording begins anew."""
    monkeypatch.setattr(sinks, "_RETRY_S", 0.05)
    (tmp_path / "out").touch()
    lines = []

    def open_sink():
        return recording_sink(lambda camera: tmp_path / "out" / "cam.mkv", lambda: 10.0, 60.0, Keeper(), annotate)

    failures = []
    with keep_trying(open_sink, lines.append, failures) as write:
        write(shown(50, 100.0))
        write(shown(50, 100.1))
        assert len(lines) == 1
        assert lines[0].startswith(f"cannot write {tmp_path}/out/cam.mkv")
        assert lines[0].endswith("; going on without")
        (tmp_path / "out").unlink()
        time.sleep(0.06)
        write(shown(50, 100.2))
        assert lines[1:] == ["writing again; 2 results were not written"]
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert len(failures) == 1


def test_a_folder_gets_the_recordings_that_cost_least(monkeypatch):
    """MP4 by PyAV, which browsers play, where it is installed; else what takes a tenth of VP8's time."""
    assert choose_recording_suffix() == (".mp4" if can_write_fragments() else ".mkv")
    choose_recording_suffix.cache_clear()
    monkeypatch.setattr(video_file_module, "can_write_fragments", lambda: False)
    assert choose_recording_suffix() == ".mkv"
    choose_recording_suffix.cache_clear()
    assert choose_codec(".mkv") == "mp4v"


@pytest.mark.skipif(not can_write_fragments(), reason="needs PyAV with an H.264 encoder (edgedet[record])")
@pytest.mark.parametrize("size_wh", [(256, 192), (255, 193)])
def test_an_mp4_file_plays_while_it_grows(tmp_path, size_wh):
    """At 10 pictures a second, what is older than a second can be played; an odd last row or column is cut off."""
    path = tmp_path / "out.mp4"
    with open_video_file(path, 10.0, size_wh, grows=True) as write:
        for n in range(25):
            write(result(level=5 * n, size_wh=size_wh).frame.bgr)
        playable = levels_of(path)
    np.testing.assert_allclose(playable, [5 * n for n in range(20)], atol=CODEC_ERROR)
    np.testing.assert_allclose(levels_of(path), [5 * n for n in range(25)], atol=CODEC_ERROR)
    assert is_whole(path)
    assert frames_of(path)[1] == 10.0


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_full_disk_leaves_no_file_without_a_picture(tmp_path, monkeypatch, suffix):
    """With --on-write-error go-on it is tried every ten seconds; a day of that would be 8,640 files."""
    if suffix == ".mp4":
        pytest.importorskip("av", reason="an .mp4 grows under its name where PyAV is")
    monkeypatch.setattr(video_file_module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    opened = open_video_file(tmp_path / f"a{suffix}", 10.0, (64, 48), True)
    with pytest.raises(InputError, match="the disk is full"), opened:
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_matroska_file_that_was_not_closed_is_not_whole(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    with open_video_file(path, 10.0, (256, 192), grows=True) as write:
        write(result().frame.bgr)
        assert path.exists()
    assert is_whole(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x18\x53\x80\x67") + 4
    data[at : at + 8] = b"\x01" + b"\xff" * 7  # the size as it stands while the file grows
    path.write_bytes(data)
    assert not is_whole(path)


KILLED = """
import sys, time
sys.path[:0] = {path!r}
import numpy as np
from pathlib import Path
from edgedet.stream.outputs.recording import recording_sink
from edgedet.stream.outputs.segments import Keeper
from edgedet.types import Frame, FrameResult
noise = np.random.default_rng(0).integers(0, 256, {size_hw} + (3,), dtype=np.uint8)
base = Path({folder!r}) / "cam{suffix}"
drawn = 0
def annotate(one):
    global drawn
    drawn += 1
    return one.frame.bgr
with recording_sink(lambda camera: base, lambda: 2.0, 8.0, Keeper(), annotate) as write:
    for n in range(47):
        write(FrameResult(Frame(noise, 100.0 + n / 2, 0, camera="cam"), None))
        while drawn < n:
            time.sleep(0.001)
    while drawn < 47:
        time.sleep(0.001)
    time.sleep(0.3)  # for the last one to be encoded
    print("recording", flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4"])
def test_killed_in_the_middle_all_but_the_open_segment_plays(tmp_path, suffix):
    """Three segments of 8 s at 2 a second; kill -9 leaves two that play, and of the third what was on the disk.

    FFmpeg writes Matroska by 5 s and 256 KB, so the larger pictures are there. MP4 by PyAV loses the last second.
    """
    size_hw = (480, 640) if suffix == ".mkv" else (96, 128)
    code = KILLED.format(path=sys.path, folder=str(tmp_path), suffix=suffix, size_hw=size_hw)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "recording\n"
        os.kill(process.pid, signal.SIGKILL)
    closed = sorted(path for path in tmp_path.iterdir() if not path.name.startswith(".") and is_whole(path))
    if suffix == ".mp4" and can_write_fragments():
        last = closed.pop()  # it ends with a whole fragment
        assert len(frames_of(last)[0]) >= 15 - 3  # of 15: one fragment of two, and one that may be in hand
    assert [len(frames_of(path)[0]) for path in closed] == [16, 16]
    rest = [path for path in tmp_path.iterdir() if path not in closed]
    assert len(rest) == 1
    if suffix == ".mkv":
        assert len(frames_of(rest[0])[0]) >= 1
    with recording_sink(lambda camera: Path(tmp_path) / f"cam{suffix}", lambda: 10.0, 1.0, Keeper(), annotate) as write:
        write(shown(50, 200.0))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # the next run tidies up
