"""The test run itself: a test that leaves a process or a thread behind is told so, and the process is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import leftovers
import pytest

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@linux_only
def test_a_child_that_still_runs_is_ended_and_told() -> None:
    around = leftovers.refused("module", grace_s=0.0)
    next(around)
    child = subprocess.Popen(["sleep", "600"])
    with pytest.raises(AssertionError, match=rf"left child processes, .*{child.pid}: 'sleep 600'"):
        next(around)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    child.returncode = -signal.SIGKILL  # else its Popen warns: it was waited for elsewhere


@linux_only
def test_a_process_whose_parent_has_ended_is_found_as_well() -> None:
    around = leftovers.refused("module", grace_s=0.0)
    next(around)
    subprocess.run(["sh", "-c", "sleep 601 > /dev/null &"], check=True)
    with pytest.raises(AssertionError, match="sleep 601"):
        next(around)


def test_a_thread_that_still_runs_is_told() -> None:
    around = leftovers.refused("module", grace_s=0.0)
    next(around)
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="waits")
    thread.start()
    with pytest.raises(AssertionError, match=r"left threads that still run: \['waits'\]"):
        next(around)
    end.set()
    thread.join()


def test_what_has_ended_is_nothing_left() -> None:
    around = leftovers.refused("module", grace_s=0.0)
    next(around)
    subprocess.run([sys.executable, "-c", ""], check=True)
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert list(around) == []


def test_ctrl_c_reaches_a_test_run_in_the_background() -> None:
    """A script starts `pytest &` with SIGINT ignored; what tests start would inherit that."""
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
