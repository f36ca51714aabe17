"""Metadata and a checksum at the end of a .tflite or .engine file, as a ZIP archive after the flatbuffer or plan.

TensorFlow Lite's own metadata is kept in the same way, so interpreters ignore the archive, and `unzip -p model.tflite
edgedet.json` shows the metadata. There is a checksum because a damaged flatbuffer can end the process that runs it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Tuple, Union

from ..artifact import MAX_META_BYTES, ArtifactMeta
from ..errors import ArtifactError, ForeignError

META_ENTRY = "edgedet.json"
SHA256_ENTRY = "edgedet.sha256"  # of all bytes before the ZIP, in hex
IDENTIFIER = b"TFL3"  # at byte 4 of each .tflite flatbuffer


def with_trailer(flatbuffer: bytes, meta: ArtifactMeta) -> bytes:
    """Return the file: ``flatbuffer``, then metadata and checksum as a ZIP. The same input gives the same bytes."""
    file = io.BytesIO()
    file.write(flatbuffer)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(META_ENTRY), meta.to_json())
        archive.writestr(zipfile.ZipInfo(SHA256_ENTRY), hashlib.sha256(flatbuffer).hexdigest())
    return file.getvalue()


def read_trailer(path: Union[str, Path]) -> Tuple[ArtifactMeta, bytes]:
    """Return the metadata and the flatbuffer, after its checksum was compared.

    Raises ArtifactError where the file is damaged, ForeignError where it is cut off or not written by edgedet.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}.") from None
    if data[4:8] != IDENTIFIER:
        raise ArtifactError(f"{path} is damaged or no TFLite file. Export it again.")
    return split_trailer(path, data)


def split_trailer(path: Union[str, Path], data: bytes) -> Tuple[ArtifactMeta, bytes]:
    """Return the metadata of a file's bytes and the bytes before it; see ``read_trailer``."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            start = min(info.header_offset for info in archive.infolist())
            text, checksum = (_read_entry(archive, name) for name in (META_ENTRY, SHA256_ENTRY))
    except KeyError:
        raise ForeignError(f"{path} holds no edgedet metadata: use a file that `edgedet export` wrote.") from None
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ForeignError(
            f"{path} is cut off or holds no edgedet metadata ({error}): use a file that `edgedet export` wrote."
        ) from None
    flatbuffer = data[:start]
    if hashlib.sha256(flatbuffer).hexdigest() != checksum:
        raise ArtifactError(
            f"{path} is damaged: its checksum is not the one that was written. Copy or export it again."
        )
    try:
        return ArtifactMeta.from_json(text), flatbuffer
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None


def _read_entry(archive: zipfile.ZipFile, name: str) -> str:
    info = archive.getinfo(name)
    if info.file_size > MAX_META_BYTES or info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is not as edgedet writes it")
    return archive.read(info).decode("utf-8")
