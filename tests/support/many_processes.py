"""What several processes of one test run share: files that take seconds to make, and who starts the longest tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

T = TypeVar("T")


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder ``name`` that ``make(folder)`` filled, once in a run of the tests.

    pytest-xdist gives each process a temporary folder of its own, inside one that they share. The first process that
    asks makes the files there, while the others wait (pytest-xdist's documentation, "Making session-scoped fixtures
    execute only once"). Tests must not change the files.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / name
    with FileLock(base / f"{name}.lock"):
        if not folder.is_dir():
            unfinished = factory.mktemp(name)
            make(unfinished)
            unfinished.rename(folder)
    return folder


def spread(longest: Sequence[T], others: Sequence[T], processes: int) -> list[T]:
    """Return all tests in an order in which each process begins with one of ``longest`` while there are any.

    pytest-xdist's ``--dist worksteal`` gives each process one part of the list, of equal lengths where that can be.
    """
    total, ordered, rest = len(longest) + len(others), [], list(others)
    for process in range(processes):
        own = list(longest[process::processes])
        share = max(0, (total - len(ordered)) // (processes - process) - len(own))
        ordered += own + rest[:share]
        rest = rest[share:]
    return ordered
