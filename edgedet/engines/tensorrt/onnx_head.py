"""What stands in an ONNX file's head: edgedet's metadata and the opset. Stdlib only: a board has no onnx package.

ModelProto, by onnx.proto3: opset_import is field 8, metadata_props field 14; the graph, field 7, is passed over.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Container, Dict, Iterator, Tuple, Union

from ...artifact import MAX_META_BYTES, META_KEY, ArtifactMeta
from ...errors import ArtifactError
from ...files import sha256_of

_OPSET_IMPORT, _METADATA_PROPS = 8, 14
_FIRST, _SECOND = 1, 2  # key and value of a metadata entry; domain and version of an opset
_VARINT, _BYTES = 0, 2  # wire types of Protocol Buffers
_FIXED_BYTES = {1: 8, 5: 4}
_TYPED_OPSET = 19  # edgedet writes FP16 scales from this opset on, for strong typing (docs/int8.md)


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that edgedet wrote.

    typed: every tensor's type stands in the file, FP16 where it is not INT8: for strongly typed networks.
    """

    path: Path
    meta: ArtifactMeta
    opset: int
    sha256: str

    @property
    def typed(self) -> bool:
        """Whether the file is the FP16 one."""
        return self.opset >= _TYPED_OPSET


def read_onnx(path: Union[str, Path]) -> OnnxFile:
    """Read the head; raises ArtifactError in one line where the file is missing, damaged or not edgedet's."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            props, opset = _head(file, path.stat().st_size)
        text = props.get(META_KEY, "")
        if text:
            return OnnxFile(path, ArtifactMeta.from_json(text), opset, sha256_of(path))
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}.") from None
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    except (EOFError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged or no ONNX file ({error}): export it again.") from None
    raise ArtifactError(f"{path} holds no edgedet metadata: use a file that `edgedet export` wrote.")


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
