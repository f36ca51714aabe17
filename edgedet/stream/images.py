"""Read picture files, and recognise those that are cut off."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import SourceError, require

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", *TIFF_SUFFIXES)


def read_image(path: Path) -> np.ndarray:
    """Return the picture, (H, W, 3) uint8 BGR, turned upright where its EXIF data says so.

    Raises SourceError where the file is missing, empty, cut off or no image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from None
    return decode_image(data, path)


def decode_image(data: bytes, path: Path) -> np.ndarray:
    """Return the picture that a file's bytes hold, (H, W, 3) uint8 BGR; raises SourceError, naming it by ``path``."""
    cv2 = require("cv2", "reading images")
    if not data:
        raise SourceError(f"{path} is empty (0 bytes).")
    bgr = None
    if not is_cut_off(data):
        with suppress(cv2.error):  # more pixels than OpenCV takes
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise SourceError(f"{path} is damaged or no image.")
    return np.asarray(bgr)


def count_pages(path: Path) -> int:
    """Return how many pictures a file holds: more than 1 only for a TIFF, and 1 where this OpenCV cannot tell."""
    cv2 = require("cv2", "reading images")
    if path.suffix.lower() not in TIFF_SUFFIXES or not hasattr(cv2, "imcount"):  # since OpenCV 4.5.4
        return 1
    return max(1, int(cv2.imcount(str(path))))


def is_cut_off(data: bytes) -> bool:
    """Return whether a JPEG or PNG lacks its end marker. OpenCV 4 would paint the missing part of a JPEG grey.

    In a JPEG the segments before the first scan are skipped (ITU-T T.81 annex B), because a preview in the EXIF segment
    has an end marker of its own. In a scan, FF D9 can only be the end.
    """
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if not data.startswith(b"\xff\xd8"):
        return False
    start = 2
    while data[start : start + 1] == b"\xff" and data[start + 1 : start + 2] != b"\xda":
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return b"\xff\xd9" not in data[start:]
