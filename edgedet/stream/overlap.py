"""Let stages run beside each other: an iteration in a thread of its own, a function in several. Knows no frame."""

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

NICENESS = 10  # of threads that stand back: a tenth of the detector's weight, where there are not enough cores for all
_POLL_S = 0.1  # how long a producer may go on for a consumer that has gone


def lower_priority() -> None:
    """Let the calling thread stand back behind the detector's, where the system can do that for one thread."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":  # elsewhere it is the whole process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class Beside(Generic[T]):
    """An iteration that runs ahead of its reader in a thread, by ``ahead`` items; its errors come to the reader.

    Close it, and the thread is waited for: what it iterates over must end soon then, so end that first.
    """

    def __init__(self, items: Iterable[T], ahead: int, name: str) -> None:
        """Start at once."""
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
        except BaseException as raised:  # the reader is to know, whatever it is
            error = raised
        finally:
            if isinstance(items, Generator):
                items.close()  # what it holds is let go in the thread that used it
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


def in_order(functions: Sequence[Callable[[T], R]], items: Iterable[T]) -> Iterator[R]:
    """Yield the result of each item in order; each function has a thread of its own and takes items in turn.

    With one function this is ``map``. The functions may take equally long, as copies of one do.
    """
    if len(functions) == 1:
        yield from map(functions[0], items)
        return
    with ExitStack() as held:
        threads = [held.enter_context(ThreadPoolExecutor(1, "detector")) for _ in functions]
        pending: Deque[Future[R]] = deque()
        for item, thread, function in zip(items, cycle(threads), cycle(functions)):
            pending.append(thread.submit(function, item))
            if len(pending) > len(threads):  # one more than there are threads, so that each finds its next at once
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
