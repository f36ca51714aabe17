"""A model file that goes to each machine once, and what each worker has open of such files."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgedet.errors import ArtifactError

KEPT_OPEN = 3  # files a worker: an export judges one file after the other, and the float one beside them
T = TypeVar("T")


@dataclass(frozen=True)
class SharedFile:
    """A file's name, bytes and SHA-256."""

    name: str
    data: bytes
    sha256: str

    @staticmethod
    def of(name: str, data: bytes) -> SharedFile:
        """Return bytes with their checksum."""
        return SharedFile(name, data, hashlib.sha256(data).hexdigest())


_opened: dict[Hashable, tuple[Any, tempfile.TemporaryDirectory[str]]] = {}


def open_once(file: SharedFile, how: Hashable, open_path: Callable[[Path], T]) -> T:
    """Return what ``open_path`` makes of the file; it is made once in this process for each ``how``.

    Of more than KEPT_OPEN files the one that was not used for longest is closed. Raises ArtifactError where the bytes
    arrived damaged.
    """
    key = (file.sha256, how)
    if key not in _opened:
        if hashlib.sha256(file.data).hexdigest() != file.sha256:
            raise ArtifactError(f"{file.name} arrived damaged: its SHA-256 is another one. Try again.")
        while len(_opened) >= KEPT_OPEN:
            oldest, folder = _opened.pop(next(iter(_opened)))
            getattr(oldest, "close", lambda: None)()
            folder.cleanup()
        folder = tempfile.TemporaryDirectory(prefix="edgedet-")
        path = Path(folder.name) / file.name
        path.write_bytes(file.data)
        _opened[key] = open_path(path), folder
    else:
        _opened[key] = _opened.pop(key)  # the last one is the one that was used last
    value: T = _opened[key][0]
    return value
