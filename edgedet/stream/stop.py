"""How a run is asked to end: by Ctrl-C, SIGTERM, SIGHUP, or a key. Knows nothing of what runs."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import Any, Iterator


class Stop:
    """Whether the run is to end after the frame in hand; asked by a signal, a key or a closed window."""

    def __init__(self) -> None:
        """Start as not asked."""
        self.signum = 0  # of the signal that asked
        self._asked = False

    def __call__(self) -> bool:
        """Return True once somebody asked."""
        return self._asked

    def ask(self) -> None:
        """Ask for the end."""
        self._asked = True

    def _on_signal(self, signum: int, _: Any) -> None:
        if self.signum:  # the second time the user is in earnest
            raise KeyboardInterrupt
        self.signum = signum
        self._asked = True

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Let Ctrl-C, SIGTERM and SIGHUP ask within the block, so that files are finished; a second one ends at once.

        SIGHUP, of a closed terminal, is left alone where it is ignored, as under nohup.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python gives signals to the main thread only
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
