"""When a frame was captured, from a stream's own times. All times here are made up, so the answers are exact."""

from __future__ import annotations

import pytest

from edgedet.stream.cameras.sensor_time import LONGEST_DELAY_S, StreamClock, from_driver

INTERVAL_S = 0.2
TRANSIT_S = 0.03  # of the frame that takes least
START_S = 1000.0  # of this machine's clock, where the stream's is 50


def captured(clock, number, delay_s):
    """Return the answer for the n-th frame, which was read ``delay_s`` after the quickest way."""
    exposed_s = START_S + number * INTERVAL_S
    return exposed_s, clock.captured_s(exposed_s + TRANSIT_S + delay_s, 50.0 + number * INTERVAL_S)


def test_a_frame_that_waited_on_the_way_is_as_old_as_it_is():
    clock = StreamClock()
    for number, delay_s in enumerate([0.5, 0.0, 0.0, 0.4, 0.0, 1.5]):
        exposed_s, answer_s = captured(clock, number, delay_s)
        if number:
            assert answer_s == pytest.approx(exposed_s + TRANSIT_S, abs=0.01)  # the clocks may drift by 1 ms a second


def test_what_the_parser_holds_back_counts():
    """FFmpeg gives a frame of H.264 when the next one begins: each is one interval old by then."""
    clock = StreamClock(held_frames=1)
    for number in range(5):
        exposed_s, answer_s = captured(clock, number, INTERVAL_S)
    assert answer_s == pytest.approx(exposed_s + TRANSIT_S, abs=0.01)


def test_a_burst_after_the_opening_is_old():
    """25 frames that came during five seconds of opening are read at once: only the last one is new."""
    clock = StreamClock()
    last = 24
    ages = []
    for number in range(last + 1):
        read_s = START_S + last * INTERVAL_S + TRANSIT_S
        clock.captured_s(read_s, 50.0 + number * INTERVAL_S)
    for number in (last, last + 1):
        exposed_s, answer_s = captured(clock, number, 0.0)
        ages.append(answer_s - exposed_s)
    assert ages == pytest.approx([TRANSIT_S] * 2, abs=0.01)


def test_clocks_that_drift_apart_do_not_make_frames_older():
    """A camera whose clock runs slow by 100 ppm, a usual quartz: after three hours that is a second."""
    clock = StreamClock()
    for number in range(0, 60 * 60 * 3 * 5, 50):
        exposed_s = START_S + number * INTERVAL_S
        answer_s = clock.captured_s(exposed_s + TRANSIT_S, 50.0 + number * INTERVAL_S * (1 - 1e-4))
        assert exposed_s <= answer_s <= exposed_s + TRANSIT_S


@pytest.mark.parametrize("jump_s", [-40.0, 1e6])
def test_a_stream_whose_times_begin_anew_is_followed(jump_s):
    clock = StreamClock()
    captured(clock, 0, 0.0)
    read_s = START_S + 1.0
    assert clock.captured_s(read_s, 50.0 + jump_s) == read_s


def test_no_frame_is_from_the_future_nor_from_yesterday():
    clock = StreamClock()
    clock.captured_s(START_S, 50.0)
    assert clock.captured_s(START_S + 1.0, 55.0) == START_S + 1.0
    assert clock.captured_s(START_S + 500.0, 55.1) == START_S + 500.0 - LONGEST_DELAY_S


@pytest.mark.parametrize(("stamp_s", "answer_s"), [(99.9, 99.9), (0.0, 100.0), (100.1, 100.0), (1.7e9, 100.0)])
def test_a_drivers_time_is_taken_where_it_can_be_one(stamp_s, answer_s):
    """V4L2 stamps by the monotonic clock; some drivers give none, or the time of day."""
    assert from_driver(100.0, stamp_s) == answer_s
