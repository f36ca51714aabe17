"""How far a run is, on stderr: one line that rewrites itself on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Optional, TextIO

_TERMINAL_EVERY_S = 0.25
_LOG_EVERY_S = 10.0


class Progress:
    """Prints frames done and the frames a second since the last print."""

    def __init__(self, stream: TextIO, total: Optional[int] = None) -> None:
        """Count from now; ``total`` is None where nobody knows it."""
        self.expect(total)
        self._stream = stream
        self._terminal = stream.isatty()
        self._every_s = _TERMINAL_EVERY_S if self._terminal else _LOG_EVERY_S
        self._printed_at_s = time.monotonic()
        self._printed_frames = 0

    def expect(self, total: Optional[int]) -> None:
        """Say how many frames there will be, None where nobody knows it."""
        self._of_total = f"/{total}" if total else ""

    def update(self, frames: int, found: int) -> None:
        """Note that ``frames`` are done, with ``found`` detections in the last one."""
        now = time.monotonic()
        elapsed_s = now - self._printed_at_s
        if elapsed_s < self._every_s:
            return
        fps = (frames - self._printed_frames) / elapsed_s
        text = f"frame {frames}{self._of_total}  {fps:.1f} FPS  {found} found"
        # ESC [K clears what a longer line left behind
        self._print(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
        self._printed_at_s, self._printed_frames = now, frames

    def say(self, line: str) -> None:
        """Print a line of its own; may be called from any thread."""
        start = "\r\x1b[K" if self._terminal else ""
        self._print(f"{start}edgedet: {line}\n")

    def close(self) -> None:
        """Clear the line on a terminal."""
        if self._terminal:
            self._print("\r\x1b[K")

    def _print(self, text: str) -> None:
        with suppress(OSError):  # a closed terminal or a full disk under a log must not end a run of months
            self._stream.write(text)
            self._stream.flush()
