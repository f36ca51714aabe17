"""A child process answers, says why it ended, and is still of use after Ctrl-C in the middle of a question."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import wait_until

from edgedet.child_process import Child, run_alone
from edgedet.errors import DeviceError, InputError

LARGE = np.zeros(8 << 20, np.uint8)  # beyond what a pipe holds, so that sending takes until the child reads


def echo(first: Any) -> tuple[Any, Any]:
    return first, answered


def answered(question: Any) -> Any:
    if isinstance(question, np.ndarray):
        return len(question)
    if question == "end":
        os._exit(3)
    if isinstance(question, Path):  # note that it came, and answer when the note is gone
        question.touch()
        wait_until(lambda: not question.exists())
    if question == "refuse":
        raise InputError("not this")
    return question


def busy(note: Path) -> tuple[Any, Any]:
    """Work for an hour, and note when it begins and when it is ended."""
    note.write_text(str(os.getpid()))
    try:
        time.sleep(3600.0)
    finally:
        note.unlink()
    return None, None


def interrupted() -> tuple[Any, Any]:
    """Get Ctrl-C in a moment when a library of the child lets it through."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.kill(os.getpid(), signal.SIGINT)
    return "went on", None


def held_signals() -> tuple[Any, Any]:
    return [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])], None


def say(*words: str) -> None:
    print(*words)


def end_by(how: str) -> None:
    if how == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "code":
        os._exit(7)
    if how == "words":
        sys.exit("no GPU")
    time.sleep(60.0)


def interrupt_after(event: Callable[[], object]) -> threading.Thread:
    """Press Ctrl-C once ``event`` has returned."""
    thread = threading.Thread(target=lambda: (event(), os.kill(os.getpid(), signal.SIGINT)))
    thread.start()
    return thread


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


def test_after_ctrl_c_in_a_question_the_next_answer_is_that_of_the_next_question(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    with Child(echo, "ready") as child:
        child.first()
        interrupter = interrupt_after(lambda: wait_until(asked.exists))
        with pytest.raises(KeyboardInterrupt):
            child.ask(asked)
        interrupter.join()
        asked.unlink()
        assert child.ask("hello") == "hello"


def ask_and_interrupt(child: Child, delay_s: float) -> None:
    """Ask a large question, press Ctrl-C after ``delay_s``, and wait for it where the answer came first."""
    interrupt_after(lambda: time.sleep(delay_s))
    assert child.ask(LARGE) == len(LARGE)
    while True:
        time.sleep(0.01)


@pytest.mark.parametrize("delay_s", [0.0005, 0.002, 0.005])
def test_a_message_is_not_cut_by_ctrl_c(delay_s: float) -> None:
    """Ctrl-C comes while 8 MB are sent, or later; in either case the child hears whole questions only."""
    with Child(echo, "ready") as child:
        child.first()
        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                ask_and_interrupt(child, delay_s)
        assert child.ask("hello") == "hello"


def test_ctrl_c_is_for_the_caller_and_a_child_goes_on() -> None:
    with Child(interrupted) as child:
        assert child.first() == "went on"


def python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_ctrl_c_waits_while_the_first_child_of_a_program_starts() -> None:
    """multiprocessing starts a helper with the first child, and lets Ctrl-C through again for that."""
    said = python(
        "from test_children import held_signals; from edgedet.child_process import Child\n"
        "if __name__ == '__main__':\n    with Child(held_signals) as child: print(child.first())"
    )
    assert int(signal.SIGINT) in ast.literal_eval(said)


def test_a_function_alone_gives_what_it_printed() -> None:
    code = "from test_children import say; from edgedet.child_process import run_alone; print(run_alone(say, 'a', 'b'))"
    assert python(code) == "a b\n\n"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("signal", "it ended the process with SIGSEGV"),
        ("code", "it ended the process with exit code 7"),
        ("words", "no GPU"),
        ("never", "it does not answer within 2 s"),
    ],
)
def test_a_function_alone_says_how_it_ended(how: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    monkeypatch.setattr(end_by, "__module__", "test_children")
    with pytest.raises(DeviceError, match=f"^{reason}$"):
        run_alone(end_by, how, timeout_s=2 if how == "never" else None)


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
