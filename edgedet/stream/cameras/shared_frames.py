"""Pictures in memory that two processes share: one writes, the other looks, and nothing is copied in between.

The reader hands out places and takes a place back when no array looks at it any more. Linux and other Unix systems.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import weakref
from collections import deque
from multiprocessing import reduction
from typing import Any, Deque, Dict, Tuple

import numpy as np

Shape = Tuple[int, ...]


class SharedMemory:
    """A file without a name. It can be given to a child process as an argument of its start."""

    def __init__(self, descriptor: int = -1) -> None:
        """Make an empty one, or take over an open descriptor."""
        self.descriptor = anonymous_file() if descriptor < 0 else descriptor

    def __reduce__(self) -> Any:
        """Let multiprocessing hand the descriptor to the child that it starts."""
        return _received, (reduction.DupFd(self.descriptor),)

    def place(self, offset: int, nbytes: int) -> mmap.mmap:
        """Map a part of the file, which grows where it is shorter."""
        if os.fstat(self.descriptor).st_size < offset + nbytes:
            os.ftruncate(self.descriptor, offset + nbytes)
        return mmap.mmap(self.descriptor, nbytes, offset=offset)

    def close(self) -> None:
        """Close the file; what is mapped stays."""
        os.close(self.descriptor)


def _received(descriptor: Any) -> SharedMemory:
    return SharedMemory(descriptor.detach())


def anonymous_file() -> int:
    """Return an open file in memory: it needs no folder that can be written, as a full or failing disk has none."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("edgedet frames")  # no file system's size limits it, as a container's /dev/shm would
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class FramePlaces:
    """The reader's side: places for pictures of one size, as many as are in use at the same time."""

    def __init__(self, memory: SharedMemory) -> None:
        """Begin without a place; ``allot`` says how large they are."""
        self._memory = memory
        self._end = 0
        self.allot(())

    def allot(self, shape: Shape) -> None:
        """From now on make places for pictures of this shape, uint8; earlier pictures stay valid."""
        self.shape = shape
        self._nbytes = -(-int(np.prod(shape)) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._free: Deque[Tuple[int, mmap.mmap]] = deque()

    def claim(self) -> Tuple[int, mmap.mmap]:
        """Return a place that nobody looks at: its offset in the file, and the memory."""
        try:
            return self._free.pop()  # the last that was used: it may still be in the cache
        except IndexError:
            offset, self._end = self._end, self._end + self._nbytes
            return offset, self._memory.place(offset, self._nbytes)

    def give_back(self, place: Tuple[int, mmap.mmap]) -> None:
        """Take back a place into which nothing was written."""
        self._free.append(place)

    def picture(self, place: Tuple[int, mmap.mmap]) -> np.ndarray:
        """Return the picture in a place; the place is free again when this array and all its views are gone."""
        count = int(np.prod(self.shape))
        owner = (ctypes.c_ubyte * count).from_buffer(place[1])
        weakref.finalize(owner, self._free.append, place).atexit = False
        picture: np.ndarray = np.frombuffer(memoryview(owner), np.uint8).reshape(self.shape)
        return picture


class FrameWriter:
    """The writer's side: places as the reader names them."""

    def __init__(self, memory: SharedMemory) -> None:
        """Begin without a place."""
        self._memory = memory
        self._shape: Shape = ()
        self._places: Dict[int, np.ndarray] = {}

    def place(self, offset: int, shape: Shape) -> np.ndarray:
        """Return the memory at an offset as a picture to write into."""
        if shape != self._shape:  # the places of another size are not used any more
            self._shape, self._places = shape, {}
        if offset not in self._places:
            count = int(np.prod(shape))
            self._places[offset] = np.frombuffer(self._memory.place(offset, count), np.uint8).reshape(shape)
        return self._places[offset]
