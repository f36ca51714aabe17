"""The header of a safetensors file, read with the standard library."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Dict

from ..artifact import MAX_META_BYTES, META_KEY
from ..errors import CheckpointError

MAX_HEADER_BYTES = 16 << 20  # D7x's is 0.3 MB


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
