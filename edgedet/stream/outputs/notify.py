"""Report the state of a run to systemd: ready at the first frame, alive while frames flow.

The protocol of sd_notify(3): a datagram of NAME=VALUE lines to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager, suppress
from typing import Iterator, Mapping, Optional

from ...types import FrameResult
from .sinks import Write

_STATUS_EVERY_S = 10.0
_FED_PER_WATCHDOG = 2  # times within its interval, as sd_watchdog_enabled(3) recommends


def notify_address(environment: Mapping[str, str] = os.environ) -> Optional[str]:
    """Return the address of the service manager's socket; None where none listens, as systemd does."""
    address = environment.get("NOTIFY_SOCKET", "")
    return address if address.startswith(("/", "@")) else None


@contextmanager
def notify_sink(address: str, environment: Mapping[str, str] = os.environ) -> Iterator[Write]:
    """Say READY at the first result, WATCHDOG with those that follow, STOPPING at the end; no frame, no WATCHDOG."""
    watchdog_s = _watchdog_s(environment)
    told_s = fed_s = 0.0
    frames = told_frames = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:

        def tell(*lines: str) -> None:
            with suppress(OSError):  # a service manager that restarts must not end a run of months
                connection.sendto("\n".join(lines).encode(), address.replace("@", "\0", 1))

        def write(result: FrameResult) -> None:
            nonlocal told_s, told_frames, fed_s, frames
            now = time.monotonic()
            frames += 1
            if frames == 1:
                tell("READY=1", "WATCHDOG=1", "STATUS=the first frame came")
                told_s = fed_s = now
            if watchdog_s and now - fed_s >= watchdog_s / _FED_PER_WATCHDOG:
                tell("WATCHDOG=1")
                fed_s = now
            if now - told_s >= _STATUS_EVERY_S:
                tell(f"STATUS={frames} frames, {(frames - told_frames) / (now - told_s):.1f} a second")
                told_s, told_frames = now, frames

        try:
            yield write
        finally:
            tell("STOPPING=1")


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """Return the watchdog's interval in seconds, 0 where there is none or it is another process's."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if microseconds.isdigit() and ours else 0.0
