"""Show a run's progress on stderr: on a terminal one line that is rewritten, in a log a new line now and then."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Optional, TextIO

_TERMINAL_EVERY_S = 0.25
_LOG_EVERY_S = 10.0


class Progress:
    """Prints the number of frames, and the frames a second since the last print."""

    def __init__(self, stream: TextIO, total: Optional[int] = None) -> None:
        """Start the clock; ``total`` is None where it is unknown."""
        self.expect(total)
        self._stream = stream
        self._terminal = stream.isatty()
        self._every_s = _TERMINAL_EVERY_S if self._terminal else _LOG_EVERY_S
        self._printed_at_s = time.monotonic()
        self._printed_frames = 0

    def expect(self, total: Optional[int]) -> None:
        """Set the total number of frames; None where it is unknown."""
        self._of_total = f"/{total}" if total else ""

    def update(self, frames: int, detections: int) -> None:
        """Note that ``frames`` are done, with so many ``detections`` in the last one."""
        now = time.monotonic()
        elapsed_s = now - self._printed_at_s
        if elapsed_s < self._every_s:
            return
        fps = (frames - self._printed_frames) / elapsed_s
        text = f"frame {frames}{self._of_total}  {fps:.1f} FPS  {detections} found"
        # ESC [K clears the rest of a longer line
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
