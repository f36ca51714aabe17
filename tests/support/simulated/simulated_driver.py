"""What the SIMULATED CUDA packages and TensorRT share: which thread has the device's context, and which streams live.

As in CUDA, a context is current in a thread, not in a process: a thread that has not made it current gets error 201
from every call. A stream that was destroyed is no stream any more. Objects of TensorRT that are freed where there is no
context leave a line in VIOLATIONS, because Python swallows what is raised there.
"""

from __future__ import annotations

import os
import threading

INVALID_CONTEXT = 201
VIOLATIONS: list[str] = []
_DEPTH = threading.local()


class InvalidContext(Exception):
    """A call in a thread without a context."""


def fault() -> str:
    return os.environ.get("SIMULATED_FAULT", "")


def push() -> None:
    _DEPTH.value = depth() + 1


def pop() -> None:
    if depth() < 1:
        raise InvalidContext
    _DEPTH.value -= 1


def bind() -> None:
    """As cudaSetDevice: the primary context is this thread's from now on."""
    _DEPTH.value = max(depth(), 1)


def forget_binding() -> None:
    """Leave this thread without a context, as a new one begins."""
    _DEPTH.value = 0


def depth() -> int:
    return getattr(_DEPTH, "value", 0)


def check() -> None:
    if depth() < 1:
        raise InvalidContext


def freed(thing: str) -> None:
    if depth() < 1:
        VIOLATIONS.append(f"{thing} was freed without a context")


class Stream:
    """Work is kept until somebody waits; while it is recorded, it goes into the recording instead."""

    def __init__(self):
        self.handle = 1000 + _Streams.made
        _Streams.made += 1
        STREAMS[self.handle] = self
        self.waiting, self.recording = [], None

    def queue(self, work):
        (self.waiting if self.recording is None else self.recording).append(work)

    def wait(self):
        while self.waiting:
            self.waiting.pop(0)()

    def destroy(self):
        del STREAMS[self.handle]


class _Streams:
    made = 0


STREAMS: dict[int, Stream] = {}  # by handle
