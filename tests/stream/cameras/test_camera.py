"""One camera's thread: what it does when the driver ends, hangs or raises, and its counts. The drivers are fakes."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from itertools import islice

import pytest
from fake_driver import (
    FAST,
    LATE_S,
    TIMEOUT_S,
    FakeDriver,
    assert_waits,
    consistent,
    picture,
    running,
    running_camera,
    stats,
)
from waiting import wait_until

from edgedet.errors import SourceError
from edgedet.stream.cameras.recovery import Recovery
from edgedet.stream.live import LiveSource
from edgedet.stream.pace import Pace

pytest.importorskip("cv2", reason="the frame rate is asked by OpenCV's property")


# --- it ends ----------------------------------------------------------------------------------------------------


def test_a_stream_that_ends_is_opened_again_and_the_gap_is_told_once():
    first = FakeDriver([picture(1), picture(2), picture(3)])
    with running([lambda: first, lambda: running_camera(100)]) as (source, lines):
        frames = [frame for frame in islice(source, 6)]
        assert first.released
        with_gap = [frame for frame in frames if frame.gap]
        assert len(with_gap) == 1
        assert with_gap[0].bgr[0, 0, 0] >= 100
        assert with_gap[0].gap.reason == "no frame came"
        assert 0 < with_gap[0].gap.seconds < LATE_S
        assert lines[0] == "cam: lost: no frame came; opening it again"
        assert lines[1].startswith("cam: back after ")
        assert len(lines) == 2
        assert stats(source).gaps == 1
        assert stats(source).gap_s == pytest.approx(with_gap[0].gap.seconds)
    assert consistent(stats(source))


def test_the_gap_is_told_with_the_next_frame_that_is_taken():
    """Frames that nobody takes come after the gap; the one that is taken tells of it."""
    with running([lambda: FakeDriver([picture(1)]), lambda: running_camera(100)]) as (source, _):
        wait_until(lambda: stats(source).dropped > 5)
        frame = next(iter(source))
        assert frame.gap
        assert frame.gap.reason == "no frame came"


def test_openings_are_further_and_further_apart():
    """The first reopening at once, the next after 40 ms, then 80, 160."""
    times = []

    def refused():
        times.append(time.monotonic())
        raise SourceError("no route to the camera")

    recovery = Recovery(timeout_s=TIMEOUT_S, first_wait_s=0.04)
    with running([lambda: FakeDriver([picture(1)]), refused], recovery):
        wait_until(lambda: len(times) == 5)
    assert_waits(times, [0.04, 0.08, 0.16, 0.32])


@pytest.mark.parametrize("retries", [0, 2])
def test_retries_are_counted(retries):
    openings = []

    def dies():
        openings.append(1)
        return FakeDriver([picture(len(openings))])

    recovery = Recovery(timeout_s=TIMEOUT_S, retries=retries, first_wait_s=0.01)
    with running([dies], recovery) as (source, _):
        assert len(list(source)) == retries + 1
        assert source.failures == ["cam stopped delivering: no frame came."]
        assert stats(source).state == "ended"
    assert len(openings) == retries + 1


def test_a_camera_that_ran_long_has_its_retries_again():
    """Two lives of a timeout and a half with one retry each, then one that fails twice."""

    def life():
        return FakeDriver([picture(n + len(openings) * 100) for n in range(45)], period_s=0.01)

    def refused():
        raise SourceError("gone")

    openings = []
    recovery = Recovery(timeout_s=TIMEOUT_S, retries=1, first_wait_s=0.01)
    with running([life, life, refused], recovery) as (source, _):
        list(source)
        assert stats(source).gaps == 2
        assert source.failures == ["cam stopped delivering: gone."]


def test_a_driver_that_raises_is_a_camera_that_is_lost():
    class Raises(FakeDriver):
        def read(self, into=None):
            raise OSError("unplugged")

    with running([lambda: Raises([]), running_camera]) as (source, lines):
        next(iter(source))
        assert lines[0] == "cam: lost: unplugged; opening it again"


def test_a_driver_that_raises_when_it_is_let_go_of_is_opened_again_too():
    class Raises(FakeDriver):
        def release(self):
            raise OSError("already gone")

    with running([lambda: Raises([picture(1)]), running_camera]) as (source, lines):
        assert len(list(islice(source, 5))) == 5
        assert lines[0] == "cam: lost: already gone; opening it again"


# --- it hangs ---------------------------------------------------------------------------------------------------


def test_a_slow_read_counts_as_lost_whatever_it_returns():
    """FFmpeg gives an old frame as good when its read timed out; it must not be taken for a new one."""

    class Stale(FakeDriver):
        def read(self, into=None):
            ok, bgr = super().read()
            if ok and bgr[0, 0, 0] == 3:
                time.sleep(TIMEOUT_S)
            return ok, bgr

    with running([lambda: Stale(picture(n) for n in (1, 2, 3, 4)), lambda: running_camera(100)]) as (source, lines):
        levels = [int(frame.bgr[0, 0, 0]) for frame in islice(source, 4)]
        assert 3 not in levels
        assert lines[0].startswith("cam: lost: no frame for 0.")


class Hanging(FakeDriver):
    """An opener that is started and stopped as a process is; its read hangs after the first picture."""

    def __init__(self):
        super().__init__([picture(1)])
        self.calls = []
        self.aborted = threading.Event()

    def prepare(self):
        self.calls.append("prepare")

    def __call__(self):
        self.calls.append("open")
        return self

    def read(self, into=None):
        ok, bgr = super().read()
        if not ok:
            self.aborted.wait()
            raise SourceError("ended")
        return ok, bgr

    def abort(self):
        self.calls.append("abort")
        self.aborted.set()

    def close(self):
        self.calls.append("close")


def test_a_read_that_hangs_is_noticed_in_time_and_ended_when_the_camera_is_closed():
    hanging = Hanging()
    lines = []
    source = LiveSource([("cam", hanging)], lambda: bool(lines), lines.append, Pace, FAST)
    assert len(list(source)) == 1
    assert lines == ["cam: lost: no frame for 0.3 s; opening it again"]
    source.close()
    assert hanging.calls == ["prepare", "open", "abort", "close"]
    assert hanging.released
    assert not [thread for thread in threading.enumerate() if thread.name == "capture of cam"]


def test_the_time_that_a_process_needs_to_start_is_not_the_cameras():
    """A board that boots takes 25 s to import OpenCV, three times the timeout; then the camera opens at once."""

    class Slow(Hanging):
        def prepare(self):
            time.sleep(3 * TIMEOUT_S)

    lines = []
    with closing(LiveSource([("cam", Slow())], lambda: False, lines.append, Pace, FAST)) as source:
        next(iter(source))
        assert lines == []


def test_a_gap_that_is_open_at_the_end_counts():
    def gone():
        raise SourceError("gone")

    with running([lambda: FakeDriver([picture(1)]), gone]) as (source, lines):
        next(iter(source))
        wait_until(lambda: stats(source).gap_s > 0.2)
        before_s = stats(source).gap_s
    assert stats(source).state == "ended"
    assert stats(source).gaps == 1
    assert stats(source).gap_s >= before_s


# --- frames left out --------------------------------------------------------------------------------------------


def test_frames_left_out_are_grabbed_and_counted():
    with running([running_camera], pace=lambda: Pace(every=4)) as (source, _):
        indices = [frame.index for frame in islice(source, 5)]
        assert all(index % 4 == 0 for index in indices)
        one = stats(source)
        assert one.skipped >= 3 * 4
    assert consistent(stats(source))


# --- ages -------------------------------------------------------------------------------------------------------


def test_ages_are_kept_as_percentiles():
    with running([running_camera]) as (source, _):
        with source._changed:
            for age_ms in range(1, 101):
                source.cameras[0].note_age(float(age_ms))
        one = stats(source)
        assert (one.age_ms, one.age_p50_ms) == (100.0, 50.5)
        assert one.age_p99_ms == pytest.approx(99.01)
