"""Files that take seconds to make, made by one of the test processes for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


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
