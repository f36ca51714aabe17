"""Run work that may crash, hang or take much memory in a child process: one engine, one export.

A child's memory and CPU time are those of its work alone, and where a library ends the child or the system kills it,
the caller goes on. Children start afresh (spawn), so nothing of the caller is counted.
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
_END_S = 3.0  # time for a child to end by itself, before it is killed
_ORPHAN_END_S = 10.0  # the same for a child whose caller has ended, which nobody else would kill
_starting = threading.Lock()  # multiprocessing's list of children is not made for threads that start at the same time


class Child:
    """One child process. ``make(*args)`` runs in it and returns (first answer, handler of later questions or None)."""

    def __init__(self, make: Callable[..., tuple[Any, Handler | None]], *args: Any) -> None:
        """Start; ``first`` waits for the first answer. ``make`` and ``args`` must be picklable."""
        context = multiprocessing.get_context("spawn")
        self._pipe, child_end = context.Pipe()
        self._pending = 1  # answers that have not been received
        self._process = context.Process(target=_serve, args=(child_end, make, args), daemon=True)
        with _starting, _interrupts_held():  # inherited: Ctrl-C is for the caller to handle
            self._process.start()
        child_end.close()

    def first(self, timeout_s: Optional[float] = None) -> Any:
        """Return the first answer of ``make``; raises the error that it raised, or DeviceError where the process ended.

        Raises TimeoutError where no answer came in time; a second call waits for it again.
        """
        return self._receive_answer(timeout_s)

    def ask(self, question: Any, timeout_s: Optional[float] = None) -> Any:
        """Return the handler's answer; raises as ``first``. After a TimeoutError, call nothing but ``kill``."""
        while self._pending:  # the answer to a question that was interrupted
            self._receive(timeout_s)
        with suppress(OSError), delay_interrupts():  # where the child has ended, _receive_answer says why
            self._pending += 1
            self._pipe.send(question)
        return self._receive_answer(timeout_s)

    def kill(self) -> None:
        """End the process at once, even where it hangs in a library; may be called from any thread."""
        with suppress(ValueError):  # it was already closed
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
        with suppress(ValueError):  # a process that a broken driver holds in the kernel cannot be ended
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

    def _receive_answer(self, timeout_s: Optional[float]) -> Any:
        error_name, value = self._receive(timeout_s)
        if error_name == "":
            return value
        raise getattr(errors, error_name, DeviceError)(value)

    def _receive(self, timeout_s: Optional[float]) -> tuple[str, Any]:
        """Return (class name of an error or "", value)."""
        try:
            if not self._pipe.poll(timeout_s):  # Ctrl-C ends this
                raise TimeoutError
            with delay_interrupts():
                answer: tuple[str, Any] = self._pipe.recv()
                self._pending -= 1
            return answer
        except TimeoutError:
            raise
        except (EOFError, OSError):
            self._process.join()
            raise DeviceError(_explain_exit(self._process.exitcode)) from None


def _explain_exit(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "the system killed its process, most likely for want of memory"
    if code is not None and code < 0:
        return f"its process ended by {signal.Signals(-code).name}"
    return f"its process ended with code {code}"


_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def delay_interrupts() -> Iterator[None]:
    """Delay signals that end a run until the block is done, because half a message makes a pipe unusable."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    numbers = [number for number in _ENDING if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


class _interrupts_held:  # noqa: N801 (a context manager, used as a function)
    def __enter__(self) -> None:
        resource_tracker.ensure_running()  # starting it, as the first child would, lets Ctrl-C through again
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if _HAS_MASK else set()

    def __exit__(self, *_: Any) -> None:
        if _HAS_MASK:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


_HAS_MASK = hasattr(signal, "pthread_sigmask")


def _end_with_the_caller() -> None:
    """End this child when its caller has ended: a caller that was killed cannot close the pipe. Runs in the child."""
    caller = multiprocessing.parent_process()
    if caller is not None:
        caller.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_ORPHAN_END_S)
        os._exit(1)  # the main thread hangs in a library, where Python does not run its signal handler


def _serve(pipe: Any, make: Callable[..., tuple[Any, Handler | None]], args: tuple[Any, ...]) -> None:
    """Answer questions until the caller closes the pipe. Runs in the child."""
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
        return  # the caller closed the pipe
    except EdgeDetError as error:
        pipe.send((type(error).__name__, str(error)))
    except Exception as error:  # each library has exceptions of its own
        pipe.send(("DeviceError", (str(error) or type(error).__name__).splitlines()[0]))


_ALONE = "import sys; from importlib import import_module as load; sys.path.insert(0, sys.argv[1]); "
_ALONE += "getattr(load(sys.argv[2]), sys.argv[3])(*sys.argv[4:])"


def run_alone(function: Callable[..., None], *args: str, timeout_s: Optional[float] = None) -> str:
    """Run a module's function in a fresh interpreter and return what it printed on stdout, which must not be empty.

    A Child imports the caller's program again, so it needs a program that allows that (``if __name__ == "__main__"``)
    and packages that work. ``run_alone`` imports only the function's module, so it can try code that may end the
    process. Raises DeviceError in one line that says how the process ended.
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
