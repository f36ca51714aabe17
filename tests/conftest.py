"""What holds for every test: fixtures that several files share, and nothing left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import leftovers
import pytest
from many_processes import spread
from media import SMALL_DISK_BYTES

# Bytecode is kept where PYTHONDONTWRITEBYTECODE is set, too: without it, each of hundreds of child processes compiles
# edgedet again, and each process of pytest all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# PyTorch's threads sleep while they wait for each other, here and in processes that tests start. By default they spin:
# beside another program an export by two threads then took 62 seconds of CPU instead of 7.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# As in an active virtual environment, however pytest was called: messages then say `pip install`, without a path.
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])


def pytest_configure(config: pytest.Config) -> None:
    """Have signals reach children as they do from a terminal, and find what tests leave behind."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script; children inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as under nohup: still ignored here, but not by children
        signal.signal(signal.SIGHUP, lambda number, frame: None)
    leftovers.adopt_orphans()


@pytest.hookimpl(trylast=True)  # in the order that pytest-randomly has made, of the tests that -m has chosen
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest tests at once, each in a process of its own, so that none of them runs alone in the end."""
    longest = [item for item in items if any(mark.kwargs.get("first") for mark in item.iter_markers("slow"))]
    others = [item for item in items if item not in longest]
    items[:] = spread(longest, others, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of garbage collections, of which each took 0.2 s."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed of the random order: pytest-randomly's own line is in the header, which -q hides."""
    if config.pluginmanager.hasplugin("randomly"):
        terminalreporter.write_line(
            f"in random order; the same order again: --randomly-seed={config.option.randomly_seed}"
        )


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left_by_a_module() -> Iterator[None]:
    yield from leftovers.refused("module")


@pytest.fixture(autouse=True)
def _nothing_is_left_by_a_test(_nothing_is_left_by_a_module: None) -> Iterator[None]:
    yield from leftovers.refused()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of photographs, clips and checkpoints beside the repository; no part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (clips, photographs and checkpoints), which is not part of the repository")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of SMALL_DISK_BYTES, to fill up."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk needs root and the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
