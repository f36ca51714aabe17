"""Tell new pictures from pictures that came before.

A sensor's noise makes each picture of a running camera new. A frozen camera gives the same picture again and again, and
a looping one repeats a sequence; neither gives a new picture. So one rule detects both: nothing new for some time.
"""

from __future__ import annotations

import zlib
from typing import Dict

import numpy as np

_ROWS = 64  # of a picture, evenly spread: 0.1 ms for 1280 x 720; noise reaches every row
_REMEMBERED = 9000  # pictures: a loop of 5 minutes at 30 frames a second; about 1 MB


class Novelty:
    """Remembers the latest pictures by a checksum of some of their rows."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._seen: Dict[int, None] = {}  # a set that keeps the order

    def is_new(self, bgr: np.ndarray) -> bool:
        """Return True where none of the latest pictures had these rows; remember this one."""
        rows = np.ascontiguousarray(bgr[:: max(1, len(bgr) // _ROWS)])
        checksum = zlib.crc32(rows.data)
        new = checksum not in self._seen
        if not new:
            del self._seen[checksum]
        self._seen[checksum] = None  # as the latest
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return new
