"""Run stages in parallel: an iteration in a thread of its own, or copies of a function in several threads."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from typing import Callable, Deque, Generator, Generic, Iterable, Iterator, Optional, Sequence, Tuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Above the process's own: a thread of low priority gets a tenth of the detector's time where cores are short
NICENESS = 10
_MOST_NICENESS = 19  # of Linux
_POLL_S = 0.1  # within this time a producer notices that its consumer has closed


def lower_priority() -> None:
    """Give the calling thread a lower priority than the detector's, where the system can do that for one thread."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":  # elsewhere this would change the whole process
        thread = threading.get_native_id()
        lower = min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICENESS, _MOST_NICENESS)
        lower = max(lower, os.getpriority(os.PRIO_PROCESS, thread))  # only root may raise a priority
        os.setpriority(os.PRIO_PROCESS, thread, lower)


class RunAhead(Generic[T]):
    """An iteration that runs in a thread, at most ``ahead`` items before its reader; its errors reach the reader.

    ``close`` waits for the thread, so let the iteration of ``items`` end first.
    """

    def __init__(self, items: Iterable[T], ahead: int, name: str) -> None:
        """Start the thread."""
        self._items = items
        self._queue: queue.Queue[Tuple[Optional[T], Optional[BaseException], bool]] = queue.Queue(ahead)
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._produce, name=name, daemon=True)
        self._thread.start()

    def _produce(self) -> None:
        error: Optional[BaseException] = None
        items = iter(self._items)
        try:
            for item in items:
                if not self._put((item, None, False)):
                    return
        except BaseException as raised:  # the reader raises it, whatever it is
            error = raised
        finally:
            if isinstance(items, Generator):
                items.close()  # frees the generator's resources in the thread that used them
        self._put((None, error, True))

    def _put(self, entry: Tuple[Optional[T], Optional[BaseException], bool]) -> bool:
        while not self._cancelled.is_set():
            try:
                self._queue.put(entry, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[T]:
        """Yield the items in their order."""
        while True:
            item, error, ended = self._queue.get()
            if error is not None:
                raise error
            if ended:
                return
            yield item  # type: ignore[misc]  # None only at the end

    def close(self) -> None:
        """Stop the thread."""
        self._cancelled.set()
        self._thread.join()


def map_in_order(functions: Sequence[Callable[[T], R]], items: Iterable[T]) -> Iterator[R]:
    """Yield the results of the items in their order; the functions take items in turn, each in a thread of its own.

    With one function this is ``map``. The functions should take equally long, as copies of one function do.
    """
    if len(functions) == 1:
        yield from map(functions[0], items)
        return
    with ExitStack() as resources:
        threads = [resources.enter_context(ThreadPoolExecutor(1, "detector")) for _ in functions]
        pending: Deque[Future[R]] = deque()
        for item, thread, function in zip(items, cycle(threads), cycle(functions)):
            pending.append(thread.submit(function, item))
            if len(pending) > len(threads):  # one more than threads, so that each finds its next item at once
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
