"""Read an ONNX file's metadata, opset and checksum without its graph and without the onnx package, which no board has.

Fields of ModelProto (onnx.proto3): opset_import is 8, metadata_props is 14; the graph, 7, is skipped. The checksum is
the last metadata entry of the file, and covers every byte before it.
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
from ..errors import ArtifactError, ForeignError

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
        """Whether the file gives every tensor's type, FP16 where it is not INT8: for TensorRT's strongly typed mode."""
        return self.opset >= _TYPED_OPSET


def with_checksum(model: bytes) -> bytes:
    """Return a serialised ModelProto with one more metadata entry at its end: the SHA-256 of ``model``, in hex."""
    return model + _CHECKSUM_HEAD + hashlib.sha256(model).hexdigest().encode()


def read_onnx(path: Union[str, Path]) -> OnnxFile:
    """Read everything but the graph, and compare the checksum.

    Raises ArtifactError in one line where the file is missing or damaged, ForeignError where edgedet did not write it.
    Where an older edgedet wrote no checksum, it says so on stderr, once for each file.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            sha256, checksum_matches = _compute_hashes(file, path.stat().st_size)
            if checksum_matches is False:
                raise ArtifactError(
                    "is damaged, or another program changed it: its checksum is not the one that was written. "
                    "Copy or export it again."
                )
            file.seek(0)
            props, opset = _read_metadata(file, path.stat().st_size)
        text = props.get(META_KEY, "")
        if not text:
            raise ForeignError(f"{path} holds no edgedet metadata: use a file that `edgedet export` wrote.")
        meta = _parse(text)
        if checksum_matches is None:
            _accept_without_checksum(path, meta)
        return OnnxFile(path, meta, opset, sha256)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}.") from None
    except ForeignError:
        raise
    except ArtifactError as error:
        raise ArtifactError(f"{path} {error}") from None
    except (EOFError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged or no ONNX file ({error}): export it again.") from None


def _parse(text: str) -> ArtifactMeta:
    try:
        return ArtifactMeta.from_json(text)
    except ArtifactError as error:
        raise ArtifactError(f"cannot be used: {error}") from None


def _compute_hashes(file: BinaryIO, size: int) -> Tuple[str, Optional[bool]]:
    """Return the SHA-256 of the file, and whether its checksum matches; None where it has no checksum."""
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


_reported: Set[str] = set()  # files without a checksum that stderr has named


def _accept_without_checksum(path: Path, meta: ArtifactMeta) -> None:
    """Raise ArtifactError where the edgedet that wrote the file writes checksums, else say that there is none."""
    version = re.match(r"(\d+)\.(\d+)", meta.versions.get("edgedet", ""))
    if version and (int(version[1]), int(version[2])) >= _FIRST_WITH_CHECKSUM:
        raise ArtifactError(
            "has lost its checksum: it is damaged, or another program saved it again. Copy or export it again."
        )
    if str(path) not in _reported:
        _reported.add(str(path))
        print(
            f"edgedet: {path} has no checksum, so damage to it would not be noticed: `edgedet export` it again.",
            file=sys.stderr,
        )


def _read_metadata(file: BinaryIO, size: int) -> Tuple[Dict[str, str], int]:
    """Return the metadata entries and the default domain's opset."""
    props: Dict[str, str] = {}
    opset = 0
    for number, message in _read_fields(file, size, (_OPSET_IMPORT, _METADATA_PROPS)):
        if not isinstance(message, bytes):
            raise ValueError(f"field {number} is no message")
        entry = dict(_read_fields(io.BytesIO(message), len(message), (_FIRST, _SECOND)))
        first, second = entry.get(_FIRST, b""), entry.get(_SECOND)
        if number == _METADATA_PROPS and isinstance(first, bytes) and isinstance(second, bytes):
            props[first.decode("utf-8")] = second.decode("utf-8")
        elif number == _OPSET_IMPORT and isinstance(second, int) and not first:
            opset = second
    return props, opset


def _read_fields(file: BinaryIO, size: int, numbers: Container[int]) -> Iterator[Tuple[int, Union[int, bytes]]]:
    """Yield (number, value) of the fields ``numbers`` of a message of ``size`` bytes; skip the others."""
    while file.tell() < size:
        tag = _read_varint(file)
        number, kind = tag >> 3, tag & 7
        length = _FIXED_BYTES.get(kind, 0)
        if kind == _VARINT:
            value = _read_varint(file)
            if number in numbers:
                yield number, value
        elif kind == _BYTES:
            length = _read_varint(file)
        elif not length:
            raise ValueError(f"wire type {kind}")
        if length > size - file.tell():
            raise EOFError("it is cut off")
        if kind == _BYTES and number in numbers and length <= MAX_META_BYTES:
            yield number, file.read(length)
        else:
            file.seek(length, 1)


def _read_varint(file: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)
        if not byte or shift > 63:
            raise EOFError("it is cut off")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
