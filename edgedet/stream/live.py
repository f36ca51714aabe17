"""Cameras and network streams: a thread of its own takes every frame and hands over the newest only.

A reader slower than the camera thus sees the present, not a queue of the past. Knows no model and no output.
"""

from __future__ import annotations

import threading
import time
from typing import Callable, Iterator, List, Optional

import numpy as np

from ..types import Frame
from .capture import Capture, fps_of

_LONGEST_CLOSE_S = 2.0  # a read that hangs in the driver is left behind: the thread is a daemon
_STOP_POLL_S = 0.1  # how long an interrupt may go unseen while no frame comes


class LiveSource:
    """A running capture as a source of its newest frame.

    Each Frame's index counts what the camera delivered, so a gap shows what was passed over; ``captured_s`` is
    ``time.monotonic()`` when its read returned.
    """

    live = True
    total: Optional[int] = None

    def __init__(self, name: str, capture: Capture, stopped: Callable[[], bool]) -> None:
        """Start taking frames; ``stopped`` is asked while waiting, and its True ends the iteration."""
        self.name = name
        self.fps: Optional[float] = fps_of(capture)
        self.failures: List[str] = []
        self._capture = capture
        self._stopped = stopped
        self._newest: Optional[Frame] = None  # guarded by _changed, like _end
        self._end: Optional[str] = None  # why no more frames will come
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._take_frames, name=f"capture of {name}", daemon=True)
        self._thread.start()

    def _take_frames(self) -> None:
        index = 0
        end = "no frame came"
        try:
            while not self._closing.is_set():
                ok, bgr = self._capture.read()
                if not ok:
                    break
                frame = Frame(np.asarray(bgr), captured_s=time.monotonic(), index=index)
                index += 1
                with self._changed:
                    self._newest = frame
                    self._changed.notify_all()
        except Exception as error:  # whatever a driver does: the reader must learn of it, or it waits for ever
            end = str(error)
        finally:
            self._capture.release()  # here, because releasing under a read that still runs may crash
            with self._changed:
                self._end = end
                self._changed.notify_all()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the newest frame, each once, until stopped; a camera that ends by itself is noted as a failure."""
        while not self._stopped():
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._end is not None, _STOP_POLL_S)
                frame, self._newest = self._newest, None
                end = self._end
            if frame is not None:
                yield frame
            elif end is not None:
                self.failures.append(f"{self.name} stopped delivering: {end}.")
                return

    def close(self) -> None:
        """Stop the thread and let go of the camera."""
        self._closing.set()
        self._thread.join(_LONGEST_CLOSE_S)
