"""A child process answers, says why it ended, and is still of use after Ctrl-C in the middle of a question."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import wait_until

from edgedet.child_process import Child
from edgedet.errors import DeviceError, InputError

LARGE = np.zeros(8 << 20, np.uint8)  # beyond what a pipe holds, so that sending takes until the child reads


def echo(first: Any) -> tuple[Any, Any]:
    return first, answered


def answered(question: Any) -> Any:
    if isinstance(question, np.ndarray):
        return len(question)
    if question == "end":
        os._exit(3)
    if question == "late":
        time.sleep(1.0)
    if question == "refuse":
        raise InputError("not this")
    return question


def busy(note: Path) -> tuple[Any, Any]:
    """Work for a minute, and note when it begins and when it is ended."""
    note.write_text(str(os.getpid()))
    try:
        time.sleep(60.0)
    finally:
        note.unlink()
    return None, None


def interrupt_after(seconds: float) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_a_child_answers_and_raises_what_its_handler_raised() -> None:
    with Child(echo, "ready") as child:
        assert child.first() == "ready"
        assert child.ask("hello") == "hello"
        with pytest.raises(InputError, match="not this"):
            child.ask("refuse")


def test_a_child_that_ends_says_how() -> None:
    with Child(echo, "ready") as child:
        child.first()
        for _ in range(2):  # and goes on saying so
            with pytest.raises(DeviceError, match="its process ended with code 3"):
                child.ask("end")


def test_after_ctrl_c_in_a_question_the_next_answer_is_that_of_the_next_question() -> None:
    with Child(echo, "ready") as child:
        child.first()
        interrupt_after(0.2)
        with pytest.raises(KeyboardInterrupt):
            child.ask("late")
        assert child.ask("hello") == "hello"


@pytest.mark.parametrize("delay_s", [0.0005, 0.002, 0.005])
def test_a_message_is_not_cut_by_ctrl_c(delay_s: float) -> None:
    """Ctrl-C comes while 8 MB are sent, or later; in either case the child hears whole questions only."""
    with Child(echo, "ready") as child:
        child.first()
        for _ in range(5):
            with contextlib.suppress(KeyboardInterrupt):
                interrupt_after(delay_s)
                assert child.ask(LARGE) == len(LARGE)
                time.sleep(0.2)  # where the answer came first
        assert child.ask("hello") == "hello"


def test_a_child_ends_with_a_caller_that_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "busy"
    code = (
        "from pathlib import Path; from test_children import busy; from edgedet.child_process import Child\n"
        f"if __name__ == '__main__': Child(busy, Path({str(note)!r})).first()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    caller = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        wait_until(lambda: note.exists() and note.read_text() != "")
    finally:
        caller.kill()
        caller.wait()
    wait_until(lambda: not note.exists())
