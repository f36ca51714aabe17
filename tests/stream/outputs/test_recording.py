"""Recordings last as long as what they show, in segments that play, however slow the encoder is."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from media import CODEC_ERROR, annotate, frames_of
from recordings import levels_of, record, shown
from waiting import LAST_RESORT_S, wait_until

from edgedet.errors import InputError
from edgedet.stream.outputs import recording
from edgedet.stream.outputs import video_file as video_file_module
from edgedet.stream.outputs.recording import recording_sink
from edgedet.stream.outputs.segments import Keeper
from edgedet.stream.outputs.video_file import is_whole
from edgedet.types import Gap

cv2 = pytest.importorskip("cv2", reason="OpenCV writes videos")
pytestmark = pytest.mark.usefixtures("patient")


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


def test_an_error_elsewhere_keeps_what_was_recorded(tmp_path):
    def records_and_fails():
        with recording_sink(lambda camera: tmp_path / "cam.mp4", lambda: 10.0, 60.0, Keeper(), annotate) as write:
            write(shown(50, 100.0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        records_and_fails()
    (path,) = tmp_path.iterdir()
    assert len(levels_of(path)) == 1
