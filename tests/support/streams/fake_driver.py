"""A camera driver without a camera, and what tests ask of cameras' threads."""

from __future__ import annotations

import time

import numpy as np


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


def consistent(one):
    return one.captured == one.processed + one.dropped + one.skipped + one.stale
