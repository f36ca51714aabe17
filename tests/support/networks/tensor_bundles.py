"""TensorFlow's checkpoints as bytes, by LevelDB's rules, and archives of them: also such as TensorFlow never writes."""

from __future__ import annotations

import io
import struct
import tarfile

import google_crc32c
import numpy as np

from edgedet.export.checkpoints.families import tensor_bundle

DATA, INDEX = "model.data-00000-of-00001", "model.index"


def archive_of(path, members):
    """members: (name, content or None for a symbolic link to /etc/passwd)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def varint(value):
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def masked(data):
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def block(records, compress=None):
    content = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in records)
    content += struct.pack("<II", 0, 1)
    content = (compress(content) + b"\1") if compress else content + b"\0"
    return content + masked(content)


def index_with(records, compress=None):
    """A table of one data block, by LevelDB's rules."""
    data = block(records, compress)
    index = block([(b"~", varint(0) + varint(len(data) - 5))])
    footer = varint(0) + varint(0) + varint(len(data)) + varint(len(index) - 5)
    return data + index + footer.ljust(40, b"\0") + tensor_bundle.MAGIC


HEADER = (b"", b"\x08\x01")  # one data file
VALUE = np.float32([1.5]).tobytes()
ENTRY = b"\x08\x01\x12\x04\x12\x02\x08\x01\x28\x04\x35" + masked(VALUE)  # float, (1,), 4 bytes


def bundle(index, data=VALUE):
    return tensor_bundle.TensorBundle(index, lambda _shard, _shards: data)


def entry_of(shape, data, shard=0):
    """A BundleEntryProto of floats at the start of a data file."""
    dim = b"\x08" + varint(shape)
    dims = b"\x12" + varint(len(dim)) + dim
    return (
        b"\x08\x01\x12"
        + varint(len(dims))
        + dims
        + (b"\x18" + varint(shard) if shard else b"")
        + b"\x28"
        + varint(4 * shape)
        + b"\x35"
        + masked(data)
    )
