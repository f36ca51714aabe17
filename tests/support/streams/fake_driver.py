"""A camera driver without a camera, and what tests ask of cameras' threads."""

from __future__ import annotations

import time
from contextlib import contextmanager

import numpy as np

from edgedet.stream.cameras.recovery import Recovery
from edgedet.stream.live import LiveSource
from edgedet.stream.pace import Pace


def picture(level):
    return np.full((4, 4, 3), level % 251, np.uint8)


class FakeDriver:
    """A capture that gives the pictures of an iterator, each after ``period_s``; at its end, no more."""

    def __init__(self, pictures, period_s=0.01):
        self.pictures = iter(pictures)
        self.period_s = period_s
        self.released = False

    def read(self, into=None):
        time.sleep(self.period_s)
        bgr = next(self.pictures, None)
        self.read_s = time.monotonic()
        return bgr is not None, bgr

    def captured_s(self):
        return self.read_s

    def grab(self):
        return self.read()[0]

    def get(self, prop):
        return 30.0

    def release(self):
        self.released = True


def running_camera(start=0, period_s=0.01):
    return FakeDriver((picture(level) for level in range(start, 10**6)), period_s)


def consistent(stats):
    return stats.captured == stats.processed + stats.dropped + stats.skipped + stats.stale


TIMEOUT_S = 0.3
FAST = Recovery(timeout_s=TIMEOUT_S, first_wait_s=0.01)


@contextmanager
def running(openings, recovery=FAST, pace=Pace):
    """Yield (source, lines reported) of a camera whose n-th opening calls the n-th function; the last goes on."""
    left = list(openings)
    lines = []

    def opener():
        return (left.pop(0) if len(left) > 1 else left[0])()

    source = LiveSource([("cam", opener)], lambda: False, lines.append, pace, recovery)
    try:
        yield source, lines
    finally:
        source.close()


def stats(source):
    return source.stats()[0]


LATE_S = 20.0  # a busy machine may be late; nothing here waits for so long


def assert_waits(times_s, waits_s):
    """Not sooner, and not much later."""
    actual = np.diff(times_s)
    assert (actual > 0.99 * np.array(waits_s)).all(), actual
    assert (actual < np.array(waits_s) + LATE_S).all(), actual
