"""Which frames are looked at, on paper: indices and times in, the ones that are taken out."""

from __future__ import annotations

import pytest

from edgedet.stream.pace import Pace


def taken(pace, times_s):
    return [index for index, now_s in enumerate(times_s) if pace.takes(index, now_s)]


def steady(fps, count):
    return [index / fps for index in range(count)]


def test_every_frame_by_default():
    assert taken(Pace(), steady(30, 5)) == [0, 1, 2, 3, 4]


def test_every_third():
    assert taken(Pace(every=3), steady(30, 8)) == [0, 3, 6]


def test_ten_a_second_of_thirty_are_each_third():
    assert taken(Pace(max_fps=10), steady(30, 31)) == list(range(0, 31, 3))


@pytest.mark.parametrize(("camera_fps", "max_fps"), [(25, 10), (30, 12), (29.97, 7), (60, 25)])
def test_the_mean_rate_is_kept_where_it_does_not_divide(camera_fps, max_fps):
    seconds = 100
    count = len(taken(Pace(max_fps=max_fps), steady(camera_fps, round(seconds * camera_fps))))
    assert count == pytest.approx(seconds * max_fps, rel=0.01)


def test_a_slower_camera_loses_nothing():
    assert taken(Pace(max_fps=30), steady(10, 5)) == [0, 1, 2, 3, 4]


def test_after_a_pause_nothing_is_made_up_for():
    """A second without frames at 2 a second: the next ones come at the usual distance, not in a burst."""
    assert taken(Pace(max_fps=2), [0.0, 0.1, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6]) == [0, 2, 7]


def test_both_limits():
    """Of 60, every second is 30 a second, of which each third is 10 a second."""
    assert taken(Pace(every=2, max_fps=10), steady(60, 25)) == [0, 6, 12, 18, 24]
