"""One camera's thread: what it does when the picture stands still or repeats. The drivers are fakes."""

from __future__ import annotations

import threading
import time

import pytest
from fake_driver import LATE_S, TIMEOUT_S, FakeDriver, assert_waits, consistent, picture, running, running_camera, stats
from waiting import wait_until

from edgedet.stream.cameras.recovery import Recovery

pytest.importorskip("cv2", reason="the frame rate is asked by OpenCV's property")


@pytest.mark.parametrize("period", [1, 7])
def test_a_frozen_or_looping_camera_is_noticed_and_its_pictures_are_held_back(period):
    """New pictures, then the same one (or the same seven) again and again; opened again, it runs."""
    rows = [picture(n) for n in range(20)]
    times = []

    def frozen():
        return FakeDriver(rows[n] if n < 20 else rows[20 - period + n % period] for n in range(10**6))

    def again():
        times.append(time.monotonic())
        return running_camera(100)

    with running([frozen, again]) as (source, lines):
        for frame in source:
            if frame.gap:
                break
        assert lines[0] == "cam: lost: the picture stands still or repeats for 0.3 s; opening it again"
        assert frame.gap.reason == "the picture stands still or repeats for 0.3 s"
        assert frame.bgr[0, 0, 0] >= 100
        assert TIMEOUT_S < frame.gap.seconds < LATE_S
        assert stats(source).stale >= 1
        assert len(lines) == 2
    assert consistent(stats(source))


def test_a_picture_that_stays_frozen_is_reported_once_and_opened_ever_more_seldom():
    openings = []

    def frozen():
        openings.append(time.monotonic())
        return FakeDriver(picture(7) for _ in range(10**6))

    recovery = Recovery(timeout_s=0.1, first_wait_s=0.01)
    with running([frozen], recovery) as (source, lines):
        consumer = threading.Thread(target=lambda: list(source))
        consumer.start()
        wait_until(lambda: len(openings) == 5)
    consumer.join()
    assert len(lines) == 1
    # the first life lasts a timeout until it is noticed; then it is given twice, four, eight times as long
    assert_waits(openings, [0.1, 0.2, 0.4, 0.8])


def test_a_still_picture_is_no_fault_where_the_user_says_so():
    recovery = Recovery(timeout_s=0.1, allow_repeats=True)
    with running([lambda: FakeDriver(picture(7) for _ in range(40))], recovery) as (source, lines):
        for frame in source:
            if frame.index > 30:
                break
        assert not any("stands still" in line for line in lines)  # a busy machine may have lost it for another reason
        assert stats(source).stale == 0


def test_a_camera_that_comes_back_with_an_old_picture_is_back():
    """A lens cap is black before and after the network was away: that is no frozen camera yet."""
    black = [picture(0)]
    with running([lambda: FakeDriver(black), lambda: FakeDriver(black * 3, 0.05)]) as (source, lines):
        frames = iter(source)
        next(frames)
        assert next(frames).gap.reason == "no frame came"
        assert lines[1].startswith("cam: back after")
