"""What edgedet reads of an ONNX file besides the graph: its metadata, the opset and a checksum. Stdlib only.

A board has no onnx package. ModelProto, by onnx.proto3: opset_import is field 8, metadata_props field 14; the graph,
field 7, is passed over. The checksum is the last metadata entry of the file, and covers every byte before it.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Container, Dict, Iterator, Optional, Set, Tuple, Union

from ..artifact import MAX_META_BYTES, META_KEY, ArtifactMeta
from ..errors import ArtifactError

_OPSET_IMPORT, _METADATA_PROPS = 8, 14
_FIRST, _SECOND = 1, 2  # key and value of a metadata entry; domain and version of an opset
_VARINT, _BYTES = 0, 2  # wire types of Protocol Buffers
_FIXED_BYTES = {1: 8, 5: 4}
CHECKSUM_KEY = "edgedet.sha256"
_CHECKSUM_HEAD = b"\x72\x52\x0a\x0e" + CHECKSUM_KEY.encode() + b"\x12\x40"  # field 14: key, and 64 bytes of value
_CHECKSUM_BYTES = len(_CHECKSUM_HEAD) + 64
_FIRST_WITH_CHECKSUM = (0, 2)  # version of edgedet
_CHUNK_BYTES = 1 << 20
_TYPED_OPSET = 19  # edgedet writes FP16 scales from this opset on, for strong typing (docs/int8.md)


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that edgedet wrote.

    opset:  of the default domain.
    sha256: of the whole file, in hex.
    """

    path: Path
    meta: ArtifactMeta
    opset: int
    sha256: str

    @property
    def typed(self) -> bool:
        """Whether every tensor's type stands in the file, FP16 where it is not INT8: for strongly typed networks."""
        return self.opset >= _TYPED_OPSET


def with_checksum(model: bytes) -> bytes:
    """Return a serialised ModelProto with one more metadata entry at its end: the SHA-256 of ``model``, in hex."""
    return model + _CHECKSUM_HEAD + hashlib.sha256(model).hexdigest().encode()


def read_onnx(path: Union[str, Path]) -> OnnxFile:
    """Read all but the graph, and compare the checksum.

    Raises ArtifactError in one line where the file is missing, damaged or not edgedet's. Says on stderr, once a file,
    that an older edgedet wrote no checksum.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            sha256, checksum = _hashes(file, path.stat().st_size)
            if checksum is False:
                raise ArtifactError(
                    "is damaged, or another program changed it: its checksum is not the one that was written. "
                    "Copy or export it again."
                )
            file.seek(0)
            props, opset = _head(file, path.stat().st_size)
        text = props.get(META_KEY, "")
        if not text:
            raise ArtifactError("holds no edgedet metadata: use a file that `edgedet export` wrote.")
        meta = _parse(text)
        if checksum is None:
            _accept_without_checksum(path, meta)
        return OnnxFile(path, meta, opset, sha256)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}.") from None
    except ArtifactError as error:
        raise ArtifactError(f"{path} {error}") from None
    except (EOFError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged or no ONNX file ({error}): export it again.") from None


def _parse(text: str) -> ArtifactMeta:
    try:
        return ArtifactMeta.from_json(text)
    except ArtifactError as error:
        raise ArtifactError(f"cannot be used: {error}") from None


def _hashes(file: BinaryIO, size: int) -> Tuple[str, Optional[bool]]:
    """Return the SHA-256 of the file, and whether its checksum is right; None where it ends in no checksum."""
    digest = hashlib.sha256()
    left = size - _CHECKSUM_BYTES
    while left > 0:
        chunk = file.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise EOFError("it is cut off")
        digest.update(chunk)
        left -= len(chunk)
    before = digest.hexdigest().encode()
    end = file.read()
    digest.update(end)
    matches = end[-64:] == before if end.startswith(_CHECKSUM_HEAD) else None
    return digest.hexdigest(), matches


_told: Set[str] = set()  # files without a checksum that were named on stderr


def _accept_without_checksum(path: Path, meta: ArtifactMeta) -> None:
    """Raise ArtifactError where the edgedet that wrote the file writes checksums, else say that there is none."""
    version = re.match(r"(\d+)\.(\d+)", meta.versions.get("edgedet", ""))
    if version and (int(version[1]), int(version[2])) >= _FIRST_WITH_CHECKSUM:
        raise ArtifactError(
            "has lost its checksum: it is damaged, or another program saved it again. Copy or export it again."
        )
    if str(path) not in _told:
        _told.add(str(path))
        print(
            f"edgedet: {path} has no checksum, so damage to it would not be noticed: `edgedet export` it again.",
            file=sys.stderr,
        )


def _head(file: BinaryIO, size: int) -> Tuple[Dict[str, str], int]:
    """Return the metadata entries and the default domain's opset."""
    props: Dict[str, str] = {}
    opset = 0
    for number, message in _fields(file, size, (_OPSET_IMPORT, _METADATA_PROPS)):
        if not isinstance(message, bytes):
            raise ValueError(f"field {number} is no message")
        entry = dict(_fields(io.BytesIO(message), len(message), (_FIRST, _SECOND)))
        first, second = entry.get(_FIRST, b""), entry.get(_SECOND)
        if number == _METADATA_PROPS and isinstance(first, bytes) and isinstance(second, bytes):
            props[first.decode("utf-8")] = second.decode("utf-8")
        elif number == _OPSET_IMPORT and isinstance(second, int) and not first:
            opset = second
    return props, opset


def _fields(file: BinaryIO, size: int, wanted: Container[int]) -> Iterator[Tuple[int, Union[int, bytes]]]:
    """Yield (number, value) of the wanted fields of a message of ``size`` bytes; step over the others."""
    while file.tell() < size:
        tag = _varint(file)
        number, kind = tag >> 3, tag & 7
        length = _FIXED_BYTES.get(kind, 0)
        if kind == _VARINT:
            value = _varint(file)
            if number in wanted:
                yield number, value
        elif kind == _BYTES:
            length = _varint(file)
        elif not length:
            raise ValueError(f"wire type {kind}")
        if length > size - file.tell():
            raise EOFError("it is cut off")
        if kind == _BYTES and number in wanted and length <= MAX_META_BYTES:
            yield number, file.read(length)
        else:
            file.seek(length, 1)


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)
        if not byte or shift > 63:
            raise EOFError("it is cut off")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
