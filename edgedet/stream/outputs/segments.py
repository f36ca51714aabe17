"""Name files of a long recording by the time at which they begin, and remove the oldest ones beyond a size."""

from __future__ import annotations

import re
import shutil
import threading
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

from ...errors import InputError

_STAMP = r"\d{8}T\d{9}Z"
_NUMBERED = rf"{_STAMP}(?:-(\d+))?"  # files of earlier versions have no number
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def format_stamp(utc_s: float) -> str:
    """Return a time, in seconds since 1970, as it stands in file names: 20260131T235959123Z."""
    when = datetime.fromtimestamp(utc_s, timezone.utc)
    return f"{when:%Y%m%dT%H%M%S}{when.microsecond // 1000:03d}Z"


def parse_bytes(text: str) -> int:
    """Return the bytes that a text such as "10GB" or "500 MiB" stands for; raises InputError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B?)", text.strip().upper())
    if match is None or match.group(2) not in _UNITS or float(match.group(1)) <= 0:
        raise InputError(f"wanted a size such as 10GB or 500MB; got {text!r}.")
    return int(float(match.group(1)) * _UNITS[match.group(2)])


class Keeper:
    """Names segments, and keeps all of them together below a number of bytes by removing the oldest.

    The oldest is the one with the lowest number in its name, which counts on from run to run: the clock of a board
    without a battery may be wrong by years. Segments of earlier runs with the same names are counted and removed too;
    other files are never touched. May be called from several threads.
    """

    def __init__(self, budget_bytes: Optional[int] = None, reserve_bytes: int = 0) -> None:
        """Keep ``budget_bytes`` at most, None for no limit; with one, leave ``reserve_bytes`` of the disk free."""
        self._budget_bytes = budget_bytes
        self._reserve_bytes = reserve_bytes
        self._lock = threading.RLock()
        self._last_number = 0
        self._closed: Dict[Path, Tuple[Tuple[int, str], int]] = {}  # path -> ((number, stamp), bytes)
        self._open: Set[Path] = set()
        self._bases: Set[Path] = set()

    @property
    def budget_bytes(self) -> Optional[int]:
        """What is kept at most, None for no limit."""
        return self._budget_bytes

    def new(self, base: Path, utc_s: float) -> Path:
        """Return a new segment's path: ``base``, time and number, suffix. ``done`` takes it when it is closed."""
        with self._lock:
            self._find_earlier(base)
            self._last_number += 1
            path = base.with_name(f"{base.stem}-{format_stamp(utc_s)}-{self._last_number:06d}{base.suffix}")
            self._open.add(path)
            return path

    def done(self, path: Path) -> None:
        """Take a closed segment into account, or one that was not written after all."""
        with self._lock:
            self._open.discard(path)
            if self._budget_bytes is None:  # nothing will be removed, and a list would grow for ever
                return
            with suppress(OSError):
                self._closed[path] = (_order_of(path), path.stat().st_size)

    def prune(self) -> List[Path]:
        """Remove the oldest closed segments until the rest, the open ones included, keeps the limit; return them."""
        if self._budget_bytes is None:
            return []
        with self._lock:
            total = sum(size for _, size in self._closed.values()) + sum(map(_size_of, self._open))
            removed: List[Path] = []
            for path, (_, size) in sorted(self._closed.items(), key=lambda item: item[1][0]):
                if total <= self._budget_bytes and self._is_room(path.parent):
                    break
                with suppress(OSError):  # somebody else removed it
                    path.unlink()
                del self._closed[path]
                total -= size
                removed.append(path)
            return removed

    def _is_room(self, folder: Path) -> bool:
        try:
            return shutil.disk_usage(folder).free > 2 * self._reserve_bytes
        except OSError:
            return True

    def _find_earlier(self, base: Path) -> None:
        if base in self._bases or not base.parent.is_dir():
            return
        self._bases.add(base)
        name = re.escape(base.stem) + "-" + _NUMBERED
        segment = re.compile(name + re.escape(base.suffix))
        cut = re.compile(
            r"\." + name + r"-\w+" + re.escape(base.suffix)
        )  # by atomic_path, of a process that was killed
        for path in base.parent.iterdir():
            if segment.fullmatch(path.name) and path not in self._open:
                self._last_number = max(self._last_number, _order_of(path)[0])
                self.done(path)
            elif cut.fullmatch(path.name):
                with suppress(OSError):
                    path.unlink()


def _order_of(path: Path) -> Tuple[int, str]:
    """Return (number, time) as a segment's name has them; 0 for one of an earlier version, which has no number."""
    matches = list(re.finditer(_NUMBERED, path.name))
    return (int(matches[-1].group(1) or 0), matches[-1].group(0)) if matches else (0, "")


def _size_of(path: Path) -> int:
    """Return the bytes of an open segment, under its own name or the one that it has until it is whole."""
    total = 0
    for name in (path, *path.parent.glob(f".{path.stem}-*")):
        with suppress(OSError):
            total += name.stat().st_size
    return total
