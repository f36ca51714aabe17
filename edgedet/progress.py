"""What a long task shows of itself: lines for the user, and the one progress bar of host commands, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Callable, Optional, TypeVar

from .errors import require

TERMINAL_EVERY_S, LOG_EVERY_S = 0.25, 10.0  # a log keeps every state of the bar

Say = Callable[[str], None]  # takes one line for the user, without its end; unless said otherwise, from any thread

T = TypeVar("T")


def say_nothing(line: str) -> None:
    """Ignore the line."""


def with_progress(items: Iterable[T], what: str, unit: str, total: Optional[int] = None) -> Iterable[T]:
    """Return the items behind a bar with the time left; ``what`` stands before it, "frame" or the like is ``unit``.

    total: their number, where ``items`` has no length.
    """
    bar = require("tqdm", f"edgedet ({what})").tqdm
    every_s = TERMINAL_EVERY_S if sys.stderr.isatty() else LOG_EVERY_S
    shown: Iterable[T] = bar(items, what, total, file=sys.stderr, leave=False, unit=unit, mininterval=every_s)
    return shown
