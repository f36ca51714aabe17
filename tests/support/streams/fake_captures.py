"""Cameras without a camera for capture processes: functions that open them, so that a child process can import them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from edgedet.errors import LoginError, SourceError

SIZE_HW = (24, 32)


class Counting:
    """Gives the levels 0, 1, 2, ...; into the memory that it is handed, as OpenCV does, where ``in_place``."""

    def __init__(self, in_place: bool = True, sizes: tuple[tuple[int, int], ...] = (SIZE_HW,)) -> None:
        self.in_place = in_place
        self.sizes = sizes
        self.level = -1
        self.read_s = 0.0

    def read(self, into=None):
        self.level += 1
        self.read_s = time.monotonic()
        shape = (*self.sizes[min(self.level, len(self.sizes) - 1)], 3)
        if self.in_place and into is not None and into.shape == shape:
            into[:] = self.level
            return True, into
        return True, np.full(shape, self.level, np.uint8)

    def grab(self):
        return self.read()[0]

    def captured_s(self):
        return self.read_s

    def get(self, prop):
        return 50.0

    def release(self):
        pass


class Hanging(Counting):
    """Hangs in its third read, as a driver does: no exception ends it."""

    def read(self, into=None):
        while self.level == 1:
            time.sleep(60)
        return super().read(into)


class Crashing(Counting):
    """Ends its process in its third read."""

    def read(self, into=None):
        if self.level == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().read(into)


def crashing_once(marker: Path) -> Counting:
    """Open a camera that crashes, and the next time one that does not."""
    if marker.exists():
        return Counting()
    marker.touch()
    return Crashing()


def growing() -> Counting:
    """Open a camera whose third picture is larger."""
    return Counting(sizes=(SIZE_HW, SIZE_HW, (48, 64)))


def with_memory_of_its_own() -> Counting:
    """Open a camera that takes no memory for its pictures."""
    return Counting(in_place=False)


def hanging_opening() -> Counting:
    """Hang."""
    while True:
        time.sleep(60)


def refusing() -> Counting:
    """Raise what a network camera without a stream raises."""
    raise SourceError("rtsp://cam/live cannot be opened: it refuses the connection.")


def locked(log: Path) -> Counting:
    """Raise what a camera raises that wants another password, and note the time."""
    with log.open("a") as file:
        file.write(f"{time.monotonic()}\n")
    raise LoginError("rtsp://cam/live cannot be opened: it refuses the user or password (401).")
