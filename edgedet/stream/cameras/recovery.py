"""How a lost camera is opened again: the options, the waits, and what an opener must be able to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional, Protocol, runtime_checkable

from .capture import TIMEOUT_S, Capture

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0  # between two openings: doubled from the first to the longest
LOGIN_WAIT_S = 600.0  # cameras lock an account after some 5 to 10 wrong passwords within half an hour


@dataclass(frozen=True)
class Recovery:
    """When a camera counts as lost, and how often it is opened again.

    timeout_s:     the camera is lost after so many seconds without a frame or without a new picture.
    retries:       the camera is given up after so many failed openings in a row; None: never.
    allow_repeats: whether a picture may stand still or come again (a test pattern, a demo in a loop).
    first_wait_s:  wait before the second opening; it doubles each time, up to LONGEST_WAIT_S.
    """

    timeout_s: float = TIMEOUT_S
    retries: Optional[int] = None
    allow_repeats: bool = False
    first_wait_s: float = FIRST_WAIT_S


Opener = Callable[[], Capture]


@runtime_checkable
class Startable(Protocol):
    """An opener that must be started first, as a process must, and that can be stopped while it hangs."""

    def prepare(self) -> None:
        """Start it if it does not run; raises EdgeDetError."""
        ...

    def abort(self) -> None:
        """Stop it for good, from any thread; an opening or read that hangs then raises an error soon."""
        ...

    def close(self) -> None:
        """Free everything; the capture thread calls this at its end."""
        ...
