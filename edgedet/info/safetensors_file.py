"""The header of a safetensors file, and the checksum of those that edgedet writes.

The checksum is in edgedet's own metadata, in the header. It is the SHA-256 of the whole file, computed with zeros in
place of the checksum's own 64 digits.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any, Dict, Tuple

from ..artifact import MAX_META_BYTES, META_KEY
from ..errors import CheckpointError

MAX_HEADER_BYTES = 16 << 20  # D7x's is 0.3 MB
CHECKSUM_FIELD = "file_sha256"
NO_CHECKSUM = "0" * 64  # what stands in the file while the checksum is computed
FORMAT_FIELD, FORMAT_WITH_CHECKSUM = "format", 2  # files of edgedet 0.1 have neither field
_DIGITS = re.compile(rb'\\"' + CHECKSUM_FIELD.encode() + rb'\\": \\"([^\\"]{64})\\"')  # JSON inside JSON
_CHUNK_BYTES = 1 << 20


def read_safetensors_header(path: Path) -> Dict[str, Any]:
    """Return the JSON at the file's beginning: 8 bytes of length, little-endian, then the text.

    Raises CheckpointError where the file is cut off or damaged.
    """
    with open(path, "rb") as file:
        start = file.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= size <= min(MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise CheckpointError(f"{path} is cut off or no safetensors file: copy or save it again.")
        text = file.read(size)
    try:
        header = json.loads(text.decode("utf-8"))
        data = max((value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"), default=0)
        meta = len(header.get("__metadata__", {}).get(META_KEY, ""))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}): copy or save it again.") from None
    if path.stat().st_size != 8 + size + data:
        raise CheckpointError(
            f"{path} has {path.stat().st_size} bytes, its header says {8 + size + data}: copy or save it again."
        )
    if meta > MAX_META_BYTES:
        raise CheckpointError(f"{path} has {meta} bytes of metadata; at most {MAX_META_BYTES} are expected.")
    return dict(header)


def write_checksum(path: Path) -> None:
    """Replace the zeros in place of the checksum (``NO_CHECKSUM``) in a file that was just written."""
    offset, _, sha256 = _read_checksum(path)
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(sha256.encode())


def check_checksum(path: Path, embedded: Dict[str, Any]) -> bool:
    """Return whether the file has a checksum; raise CheckpointError where the checksum does not match the file.

    embedded: edgedet's metadata of the file, empty where there is none. Files of edgedet 0.1 have no checksum.
    """
    offset, stored, sha256 = _read_checksum(path)
    if not offset and FORMAT_FIELD not in embedded:
        return False
    if not offset or stored != sha256:
        raise CheckpointError(
            f"{path} is damaged, or another program changed it: its checksum is not the one that was written. Copy or "
            "save it again."
        )
    return True


def _read_checksum(path: Path) -> Tuple[int, str, str]:
    """Return the checksum's offset in the file, the stored and the computed one; 0, "" and "" where there is none."""
    with open(path, "rb") as file:
        start = file.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        head = start + file.read(min(size, MAX_HEADER_BYTES))
        digits = _DIGITS.search(head)
        if digits is None:
            return 0, "", ""
        digest = hashlib.sha256(head[: digits.start(1)] + NO_CHECKSUM.encode() + head[digits.end(1) :])
        for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digits.start(1), digits[1].decode("ascii", "replace"), digest.hexdigest()
