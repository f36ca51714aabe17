"""A process of its own for each thing that may fail, end or grow: one engine, one export. Knows no model.

What a child needs is its own: its memory and CPU time are those of one model, and where a library ends the process or
the system kills it, the others go on. Children start afresh (spawn), so nothing of the caller is counted.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Iterator, Optional

from . import errors
from .errors import DeviceError, EdgeDetError

Handler = Callable[[Any], Any]
_END_S = 3.0  # to leave by itself, before it is killed
_ORPHAN_END_S = 10.0  # the same, where the caller is gone and nobody else would kill it
_starting = threading.Lock()  # multiprocessing's list of children is not made for threads that start at the same time


class Child:
    """One child process. ``make(*args)`` runs in it and returns (first answer, handler of later questions or None)."""

    def __init__(self, make: Callable[..., tuple[Any, Handler | None]], *args: Any) -> None:
        """Start; ``first`` waits for the first answer. ``make`` and ``args`` must be picklable."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._owed = 1  # answers that have not come
        self._process = context.Process(target=_serve, args=(theirs, make, args), daemon=True)
        with _starting, _interrupts_held():  # inherited: Ctrl-C is for the caller to handle
            self._process.start()
        theirs.close()

    def first(self, timeout_s: Optional[float] = None) -> Any:
        """Return what ``make`` gave; raises what it raised, or DeviceError where the process ended.

        Raises TimeoutError where it gave nothing in time; the answer may be asked for again.
        """
        return self._answer(timeout_s)

    def ask(self, question: Any, timeout_s: Optional[float] = None) -> Any:
        """Return the handler's answer; raises as ``first``. After a TimeoutError only ``kill`` is of use."""
        while self._owed:  # to a question whose asker was interrupted
            self._received(timeout_s)
        with suppress(OSError), _whole():  # it has ended: _answer says why
            self._owed += 1
            self._pipe.send(question)
        return self._answer(timeout_s)

    def kill(self) -> None:
        """End the process at once, also where it hangs in a library; may be called from any thread."""
        with suppress(ValueError):  # it was closed meanwhile
            self._process.kill()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()  # a waiting child ends by this
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_END_S)
        with suppress(ValueError):  # it hangs in the kernel, as a broken driver makes it, and stays behind
            self._process.close()

    def __enter__(self) -> Child:
        """Return the child; leaving the block ends it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, at once where the block was left by an error."""
        if error is not None:
            self._process.terminate()
        self.close()

    def _answer(self, timeout_s: Optional[float]) -> Any:
        kind, value = self._received(timeout_s)
        if kind == "":
            return value
        raise getattr(errors, kind, DeviceError)(value)

    def _received(self, timeout_s: Optional[float]) -> tuple[str, Any]:
        try:
            if not self._pipe.poll(timeout_s):  # Ctrl-C ends this
                raise TimeoutError
            with _whole():
                answer: tuple[str, Any] = self._pipe.recv()
                self._owed -= 1
            return answer
        except TimeoutError:
            raise
        except (EOFError, OSError):
            self._process.join()
            raise DeviceError(_end_of(self._process.exitcode)) from None


def _end_of(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "the system killed its process, most likely for want of memory"
    if code is not None and code < 0:
        return f"its process ended by {signal.Signals(-code).name}"
    return f"its process ended with code {code}"


_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def _whole() -> Iterator[None]:
    """Put signals that end a run off until the block is done: after half a message a pipe is of no use."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = [number for number in _ENDING if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


class _interrupts_held:  # noqa: N801 (a context manager, used as a function)
    def __enter__(self) -> None:
        resource_tracker.ensure_running()  # starting it, as the first child would, lets Ctrl-C through again
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if _HAS_MASK else set()

    def __exit__(self, *_: Any) -> None:
        if _HAS_MASK:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


_HAS_MASK = hasattr(signal, "pthread_sigmask")


def _end_with_the_caller() -> None:
    """Run in the child: a caller that was killed cannot hang up, and some work takes half an hour."""
    caller = multiprocessing.parent_process()
    if caller is not None:
        caller.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_ORPHAN_END_S)
        os._exit(1)  # it hangs in a library, where Python's handler of the signal does not run


def _serve(pipe: Any, make: Callable[..., tuple[Any, Handler | None]], args: tuple[Any, ...]) -> None:
    """Run in the child: answer until the caller hangs up."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, who ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that files half written are removed
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    try:
        first, handler = make(*args)
        pipe.send(("", first))
        while handler is not None:
            pipe.send(("", handler(pipe.recv())))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the caller hung up
    except EdgeDetError as error:
        pipe.send((type(error).__name__, str(error)))
    except Exception as error:  # each library has exceptions of its own
        pipe.send(("DeviceError", (str(error) or type(error).__name__).splitlines()[0]))


_ALONE = "import sys; from importlib import import_module as load; sys.path.insert(0, sys.argv[1]); "
_ALONE += "getattr(load(sys.argv[2]), sys.argv[3])(*sys.argv[4:])"


def run_alone(function: Callable[..., None], *args: str, timeout_s: Optional[float] = None) -> str:
    """Run a module's function in a fresh interpreter and return what it printed on stdout, which is something.

    A Child loads the caller's program anew, so it needs a program that allows that (``if __name__ == "__main__"``) and
    packages that work. Here nothing is loaded but the function's module: for trying what may end the process.
    Raises DeviceError in one line that says how it ended.
    """
    root = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-c", _ALONE, root, function.__module__, function.__name__, *args]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"it does not answer within {timeout_s:g} s") from None
    if done.returncode < 0:
        raise DeviceError(f"it ended the process with {signal.Signals(-done.returncode).name}")
    if done.returncode or not done.stdout.strip():
        lines = done.stderr.strip().splitlines()
        raise DeviceError(lines[-1] if lines else f"it ended the process with exit code {done.returncode}")
    return done.stdout
