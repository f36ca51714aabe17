"""What a test may leave behind: child processes and threads. Found after each test, ended by id, and told.

A process whose own parent ends first is found as well: Linux hands it to the test run (PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
GRACE_S = 30.0  # for what is about to end by itself: its pipe was closed, or it was told to stop
POLL_S = 0.02
LIBRARY_THREADS = ("TMonitor",)  # tqdm's one, started once and kept


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends first; Linux only."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def running_children() -> dict[int, str]:
    """Return the process ids and command lines of this process's children that have not ended.

    Empty where there is no /proc. multiprocessing's own tracker is left out: it serves the whole run.
    """
    if not _has_children():
        return {}
    tracker = getattr(resource_tracker._resource_tracker, "_pid", None)
    children = {}
    for pid, (state, parent) in _own_processes().items():
        if parent == os.getpid() and state not in "ZX" and pid != tracker:
            with suppress(OSError):  # it has ended meanwhile
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                children[pid] = command.decode(errors="replace").strip()
    return children


_foreign: set[int] = set()  # processes that are not of this test run and never become so: not read again


def _own_processes() -> dict[int, tuple[str, int]]:
    """Return (state, parent) of the processes that descend from this one."""
    there = {int(name) for name in os.listdir("/proc") if name.isdigit()} if os.path.isdir("/proc") else set()
    _foreign.intersection_update(there)
    known = {}
    for pid in there - _foreign:
        with suppress(OSError):
            state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
            known[pid] = (state, int(parent))
    own = {os.getpid()}
    while more := {pid for pid, (_, parent) in known.items() if parent in own} - own:
        own |= more
    _foreign.update(known.keys() - own)
    return {pid: known[pid] for pid in own & known.keys()}


def _has_children() -> bool:
    """Much cheaper than to read /proc, and nearly always False."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if type(thread).__name__ not in LIBRARY_THREADS}


def refused(of: str = "test", grace_s: float = GRACE_S) -> Iterator[None]:
    """Run around a test or all tests of a module. Raises AssertionError where a child process or a thread is left.

    The process is ended. Of one test only processes are told: what serves a module starts threads when first asked.
    """
    processes_before, threads_before = set(running_children()), _threads()
    yield
    until_s = time.monotonic() + grace_s
    while (left := {pid: command for pid, command in running_children().items() if pid not in processes_before}) and (
        time.monotonic() < until_s
    ):
        time.sleep(POLL_S)
    for pid in left:
        _end(pid)
    threads = set() if of == "test" else _threads() - threads_before
    for thread in threads:
        thread.join(max(until_s - time.monotonic(), 0.0))
    names = sorted(thread.name for thread in threads if thread.is_alive())
    assert not left, f"the {of} left child processes, which have been ended: {left}"
    assert not names, f"the {of} left threads that still run: {names}"
