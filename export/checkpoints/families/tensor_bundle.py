"""Read TensorFlow's checkpoint format V2, a "tensor bundle": NAME.index and NAME.data-00000-of-00001.

Specified by TensorFlow's sources: core/util/tensor_bundle/tensor_bundle.h and .cc, core/protobuf/tensor_bundle.proto
(BundleHeaderProto, BundleEntryProto), core/framework/tensor_shape.proto and types.proto; the index is a table of
LevelDB's format (tsl/lib/io/format.cc and block.cc; LevelDB's doc/table_format.md). TensorFlow writes its blocks
uncompressed; blocks compressed by Snappy, which it reads, need the package cramjam.

Every claim of a file is bounded before it costs memory, and every block and tensor is compared with its checksum.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedet.errors import CheckpointError, require

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)  # LevelDB's, the last 8 bytes of a table
FOOTER = 48
BLOCK_TRAILER = 5  # a byte for the compression, four for the checksum
MASK_DELTA = 0xA282EAD8  # of LevelDB's masked checksums (crc32c.h)
MAX_INDEX = 64 << 20  # bytes of an .index file; D0's with averages has 67 KB
MAX_BLOCK = 16 << 20  # TensorFlow's blocks have 256 KB
MAX_ENTRIES = 50_000  # D7x with averages and momentum has 5,700
MAX_NAME = 1000  # bytes; keys share their beginnings, so that a small block can hold many long ones
MAX_SHARDS = 1000
MAX_DIMS = 8
MAX_STRING = 8 << 20  # the object graph of D7x has 1 MB
MAX_DATA = 2 << 30  # bytes of all data files; D7x with averages and momentum has 0.93 GB
FLOAT, STRING = 1, 7  # types.proto
_RAW, _SNAPPY = 0, 1


@dataclass(frozen=True)
class Entry:
    """Where a tensor's bytes are: ``dtype`` by types.proto; offset and size in bytes of the shard's file."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc32c: int


class TensorBundle:
    """The tensors of one checkpoint, by name."""

    def __init__(self, index: bytes, read_shard: Callable[[int, int], bytes]) -> None:
        """``read_shard(shard, shards)`` returns a data file's bytes. Raises CheckpointError for a damaged index."""
        if len(index) > MAX_INDEX:
            raise CheckpointError(f"its .index is larger than {MAX_INDEX} bytes: this is no EfficientDet.")
        try:
            self.entries, self._num_shards = _entries(index)
        except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
            raise CheckpointError(f"the checkpoint's index is damaged ({error}): copy it again.") from None
        self._read_shard = read_shard
        self._shards: dict[int, bytes] = {}

    def array(self, name: str) -> np.ndarray:
        """Return a float32 tensor; raises CheckpointError where its bytes are not those that were written."""
        entry = self.entries[name]
        dtype = np.dtype("<f4")
        if entry.dtype != FLOAT or entry.size != math.prod(entry.shape) * dtype.itemsize:
            raise CheckpointError(
                f"{name} claims {entry.size} bytes for the shape {entry.shape} and the type {entry.dtype}: these are "
                "no weights."
            )
        data = self._bytes(name, entry)
        _check(data, entry.crc32c, name)
        return np.frombuffer(data, dtype).reshape(entry.shape).copy()  # frombuffer's are not writable

    def string(self, name: str) -> bytes:
        """Return a tensor that is one string: its length as varint, the length's checksum, then its bytes."""
        entry = self.entries[name]
        if entry.dtype != STRING or entry.shape != () or entry.size > MAX_STRING:
            raise CheckpointError(
                f"{name} should be one string of at most {MAX_STRING} bytes: copy the checkpoint again."
            )
        data = self._bytes(name, entry)
        length, start = _varint(data, 0)
        crc32c = require("google_crc32c", "reading a TensorFlow checkpoint")
        text = data[start + 4 :]
        checksum = crc32c.extend(crc32c.value(struct.pack("<I", length & 0xFFFFFFFF)), data[start:])
        if len(text) != length or _masked(checksum) != entry.crc32c:
            raise CheckpointError(f"{name} is damaged: its checksum is not the one that was written. Copy it again.")
        return text

    def _bytes(self, name: str, entry: Entry) -> bytes:
        if not 0 <= entry.shard < self._num_shards:
            raise CheckpointError(
                f"{name} lies in data file {entry.shard}, but the checkpoint has {self._num_shards}: copy it again."
            )
        if entry.shard not in self._shards:
            self._shards[entry.shard] = self._read_shard(entry.shard, self._num_shards)
            if sum(map(len, self._shards.values())) > MAX_DATA:
                raise CheckpointError(f"its data files hold more than {MAX_DATA} bytes: this is no EfficientDet.")
        shard = self._shards[entry.shard]
        if entry.offset < 0 or entry.size < 0 or entry.offset + entry.size > len(shard):
            raise CheckpointError(f"the data file ends before {name}: copy it again.")
        return shard[entry.offset : entry.offset + entry.size]


def _entries(index: bytes) -> tuple[dict[str, Entry], int]:
    """Return the entries by name, and the number of data files."""
    if len(index) < FOOTER or index[-8:] != MAGIC:
        raise CheckpointError("the checkpoint's .index is cut off or no table of TensorFlow: copy it again.")
    _, position = _handle(index, len(index) - FOOTER)  # of the metaindex, which is empty
    (start, size), _ = _handle(index, position)
    entries: dict[str, Entry] = {}
    num_shards = records = total = 0
    for _, handle in _records(_block(index, start, size)):
        (start, size), _ = _handle(handle, 0)
        total += size
        if total > len(index):  # each byte of a table is in one block
            raise CheckpointError("blocks of the checkpoint's .index overlap: it is damaged. Copy it again.")
        for key, value in _records(_block(index, start, size)):
            records += 1
            if records > MAX_ENTRIES:
                raise CheckpointError(f"the checkpoint holds more than {MAX_ENTRIES} tensors: this is no EfficientDet.")
            if key == b"":
                header = parse_fields(value)
                num_shards = _int(header, 1, 1)
                if _int(header, 2) != 0 or not 1 <= num_shards <= MAX_SHARDS:
                    raise CheckpointError(
                        f"the checkpoint is big-endian or has {num_shards} data files; wanted a little-endian one of "
                        f"1 to {MAX_SHARDS}."
                    )
                continue
            entries[key.decode("utf-8")] = _entry(parse_fields(value), key)
    if not num_shards:
        raise CheckpointError("the checkpoint's .index has no header: it is no tensor bundle of TensorFlow.")
    return entries, num_shards


def _entry(fields: Mapping[int, list[Any]], key: bytes) -> Entry:
    """Return a BundleEntryProto."""
    if 7 in fields:
        raise CheckpointError(
            f"{key.decode('utf-8', 'replace')} is saved in slices: save the checkpoint unpartitioned."
        )
    dims = parse_fields(_message(fields, 2)).get(2, [])
    shape = tuple(_int(parse_fields(dim), 1) for dim in dims)
    if len(shape) > MAX_DIMS or not all(0 <= side < 1 << 40 for side in shape):
        raise CheckpointError(f"{key.decode('utf-8', 'replace')} claims to be {shape[:MAX_DIMS]}: this is no weight.")
    return Entry(_int(fields, 1), shape, _int(fields, 3), _int(fields, 4), _int(fields, 5), _int(fields, 6))


def _block(table: bytes, start: int, size: int) -> bytes:
    """Return a block's content, checked and uncompressed."""
    end = start + size
    if start < 0 or size < 0 or size > MAX_BLOCK or end + BLOCK_TRAILER > len(table):
        raise CheckpointError("the checkpoint's .index points outside itself: copy it again.")
    _check(table[start : end + 1], struct.unpack_from("<I", table, end + 1)[0], "a block of the index")
    content, compression = table[start:end], table[end]
    if compression == _SNAPPY:
        cramjam = require("cramjam", "reading an index compressed by Snappy")
        try:
            if cramjam.snappy.decompress_raw_len(content) > MAX_BLOCK:
                raise CheckpointError(
                    f"a block of the index claims more than {MAX_BLOCK} bytes: copy the checkpoint again."
                )
            return bytes(cramjam.snappy.decompress_raw(content))
        except cramjam.DecompressionError as error:
            raise CheckpointError(f"a block of the index is damaged ({error}): copy it again.") from None
    if compression != _RAW:
        raise CheckpointError(
            f"the checkpoint's .index is compressed by method {compression}, but edgedet reads only 0 (none) and 1 "
            "(Snappy)."
        )
    return content


def _records(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value; keys share their beginning with the one before."""
    (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 - 4 * restarts
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + own + length > end:
            raise IndexError("a record leaves its block")
        if shared + own > MAX_NAME:
            raise IndexError(f"a name is longer than {MAX_NAME} bytes")
        key = key[:shared] + block[position : position + own]
        yield key, block[position + own : position + own + length]
        position += own + length


def parse_fields(message: bytes) -> dict[int, list[Any]]:
    """Return a protobuf message's values by field number: int for numbers, bytes for all else.

    Wire format: protobuf.dev/programming-guides/encoding. Raises IndexError or struct.error where it is damaged.
    """
    fields: dict[int, list[Any]] = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        value: Any
        if kind == 0:
            value, position = _varint(message, position)
        elif kind in (1, 5):
            value = struct.unpack_from("<Q" if kind == 1 else "<I", message, position)[0]
            position += 8 if kind == 1 else 4
        elif kind == 2:
            length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
            if position > len(message):
                raise IndexError("a field leaves its message")
        else:
            raise IndexError(f"unknown wire type {kind}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _int(fields: Mapping[int, list[Any]], number: int, default: int = 0) -> int:
    value = fields.get(number, [default])[-1]
    if not isinstance(value, int):
        raise IndexError(f"field {number} is no number")
    return value


def _message(fields: Mapping[int, list[Any]], number: int) -> bytes:
    value = fields.get(number, [b""])[-1]
    if not isinstance(value, bytes):
        raise IndexError(f"field {number} is no message")
    return value


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Return (offset, size) of a block, and where the handle ends."""
    start, position = _varint(data, position)
    size, position = _varint(data, position)
    return (start, size), position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
    raise IndexError("a number is longer than 64 bits")


def _check(data: bytes, masked: int, name: str) -> None:
    crc32c = require("google_crc32c", "reading a TensorFlow checkpoint")
    if _masked(crc32c.value(data)) != masked:
        raise CheckpointError(f"{name} is damaged: its checksum is not the one that was written. Copy it again.")


def _masked(crc: int) -> int:
    """Return a checksum in the form in which LevelDB stores it."""
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF
