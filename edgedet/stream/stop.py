"""Ask a run to end: by Ctrl-C, SIGTERM, SIGHUP, a key or a closed window."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import Any, Iterator


class Stop:
    """Whether the run shall end after the present frame."""

    def __init__(self) -> None:
        """Begin without a request to stop."""
        self.signum = 0  # of the signal that requested the stop
        self._requested = False
        self._hangups = 0  # SIGHUPs that ``take_reload`` has not returned yet

    def __call__(self) -> bool:
        """Return whether a stop was requested."""
        return self._requested

    def ask(self) -> None:
        """Request the stop."""
        self._requested = True

    def _on_signal(self, signum: int, _: Any) -> None:
        if self.signum:  # a second signal ends the run at once
            raise KeyboardInterrupt
        self.signum = signum
        self._requested = True

    def take_reload(self) -> bool:
        """Return whether SIGHUP came since the last call, where it asks for the settings to be read again."""
        hangups, self._hangups = self._hangups, 0
        return hangups > 0

    def _on_hangup(self, signum: int, _: Any) -> None:
        self._hangups += 1

    @contextmanager
    def on_signals(self, reloads: bool = False) -> Iterator[None]:
        """Let Ctrl-C, SIGTERM and SIGHUP request the stop within the block, so that files are completed.

        A second signal ends the run at once. SIGHUP, which a closed terminal sends, stays ignored where it is, as under
        nohup. With ``reloads`` it is what ``take_reload`` returns, and ends nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python gives signals to the main thread only
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        if reloads and hasattr(signal, "SIGHUP"):
            ignored = signal.signal(signal.SIGHUP, self._on_hangup)
            before.setdefault(signal.SIGHUP, ignored)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
