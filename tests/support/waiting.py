"""Wait for what another thread or process does: for the event itself, never for a time in which it should happen."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import IO

import pytest

LAST_RESORT_S = 120.0  # far beyond what a busy machine needs: it only ends a test whose event never comes
POLL_S = 0.005


def wait_until(condition: Callable[[], object], or_say: str = "it did not happen") -> None:
    """Return as soon as the condition is true."""
    deadline_s = time.monotonic() + LAST_RESORT_S
    while not condition():
        assert time.monotonic() < deadline_s, or_say
        time.sleep(POLL_S)


def read_until(lines: IO[str] | None, pattern: str) -> re.Match[str]:
    """Read what a program says until a line holds the pattern; fail with all of it where none does."""
    assert lines is not None
    said = []
    for line in lines:
        said.append(line)
        if (match := re.search(pattern, line)) is not None:
            return match
    pytest.fail("".join(said))
