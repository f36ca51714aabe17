"""Write an MP4 file that is whole or not there. Knows pictures and sizes; knows no detection."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Tuple

import numpy as np

from ..errors import InputError, require
from ..files import atomic_path

CODEC = "mp4v"  # MPEG-4 part 2: every OpenCV writes it without a GPU or a licence
# Room for the index that closes the file (16 bytes a frame: days of video) and what the encoder still holds.
MIN_FREE_BYTES = 8 << 20


@contextmanager
def mp4_file(path: Path, fps: float, size_wh: Tuple[int, int]) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield ``write(picture)`` for (H, W, 3) uint8 BGR; ``path`` appears, playable, when the block ends well.

    OpenCV's writer reports nothing, so the disk is watched while writing and the file is checked at the end.
    Raises InputError in one line where the file cannot be written or the disk fills up.
    """
    cv2 = require("cv2", "writing a video")
    with atomic_path(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*CODEC), fps, size_wh)
        if not writer.isOpened():
            raise InputError(f"cannot write {path}: this OpenCV writes no {CODEC} video of {size_wh[0]}x{size_wh[1]}.")

        def write(picture: np.ndarray) -> None:
            free = shutil.disk_usage(temporary.parent).free
            if free < MIN_FREE_BYTES:
                raise InputError(
                    f"cannot write {path}: the disk is full ({free / 1e6:.1f} MB free, {MIN_FREE_BYTES / 1e6:.0f} MB "
                    "are kept for closing the file). Choose another folder or free space."
                )
            if (picture.shape[1], picture.shape[0]) != size_wh:  # a stream may change its size; a file cannot
                picture = cv2.resize(picture, size_wh)
            writer.write(picture)

        try:
            yield write
        finally:
            writer.release()
        if not is_whole_mp4(temporary):
            raise InputError(f"cannot write {path}: the written file is cut. Is there a quota or a size limit?")


def is_whole_mp4(path: Path) -> bool:
    """Return True where the boxes of an MP4 file follow one another to its very end and an index is among them.

    A box is 4 bytes of size and 4 of type; size 1 means 8 more bytes of size (ISO/IEC 14496-12, 4.2).
    """
    types = set()
    at, end = 0, path.stat().st_size
    with open(path, "rb") as file:
        while at < end:
            file.seek(at)
            header = file.read(16)
            size = int.from_bytes(header[:4], "big")
            if size == 1:
                size = int.from_bytes(header[8:], "big")
            if size < 8:
                return False
            types.add(header[4:8])
            at += size
    return at == end and {b"moov", b"mdat"} <= types
