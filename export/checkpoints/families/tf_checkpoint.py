"""TensorFlow checkpoints as google/automl publishes them: name -> array, averaged weights before plain ones.

Read from a .tar.gz (.tgz, .tar), a folder or its files: ``checkpoint`` (which of several is the newest), NAME.index and
NAME.data-*. Both ways in which TensorFlow names tensors are known: by variable (automl's published files) and by
object, where the checkpoint's own graph of objects gives the variables' names (automl's tf2/train.py).
Nothing of an archive is written to disk, so no path in it can lead anywhere.
"""

from __future__ import annotations

import gzip
import io
import posixpath
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families.tensor_bundle import FLOAT, MAX_INDEX, TensorBundle, parse_fields

GZIP_MAGIC = b"\x1f\x8b"
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
INDEX = ".index"
STATE = "checkpoint"  # the text file in which TensorFlow keeps the newest checkpoint's name
MAX_BYTES = 2 << 30  # of an archive's content; D7x with averages and momentum has 0.93 GB
MAX_WEIGHTS = 1 << 30  # bytes of the tensors that are read; D7x's have 0.31 GB
MAX_MEMBERS = 1000
MAX_STATE = 1 << 20
AVERAGE = "/ExponentialMovingAverage"  # tf.train.ExponentialMovingAverage
AVERAGE_SLOT = "average"  # tensorflow_addons' MovingAverage, as tf2/train.py uses it
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# What optimizers keep beside a variable, in TensorFlow's names
_SLOTS = re.compile(r".*/(Momentum|RMSProp|RMSProp_1|Adam|Adam_1|Adagrad|Ftrl|Ftrl_1)")
_SHARD = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_STATE_LINE = re.compile(r'^model_checkpoint_path:\s*"(.+)"', re.MULTILINE)
_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, OSError, ValueError)


def find_index(path: Path) -> Path:
    """Return the .index file that a folder, a data file or NAME alone means; other paths come back as they are.

    Raises CheckpointError where a folder holds no checkpoint, or several and does not say which.
    """
    if path.is_dir():
        names = [entry.name for entry in path.iterdir()]
        return path / f"{_newest(names, lambda: _read_text(path / STATE), str(path))}{INDEX}"
    shard = _SHARD.fullmatch(path.name)
    whole = path.with_name(f"{shard[1] if shard else path.name}{INDEX}")
    return whole if (shard or not path.exists()) and whole.is_file() else path


def is_tf_checkpoint(path: Path, head: bytes) -> bool:
    """Return whether a file is one of a checkpoint, judged by its first bytes (at least 262) and its name."""
    archive = head.startswith(GZIP_MAGIC) or head[TAR_MAGIC_AT:].startswith(TAR_MAGIC)
    return archive or path.suffix == INDEX


def arrays_from_tf_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return variable's name -> float32 array, and notes on what was chosen.

    path: archive or .index file. Raises CheckpointError in one line for what cannot be used.
    """
    try:
        bundle = _from_folder(path) if path.suffix == INDEX else _from_archive(path)
        return read_arrays(bundle)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def read_arrays(bundle: TensorBundle) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return variable's name -> array of a checkpoint's weights, and notes."""
    floats = {name for name, entry in bundle.entries.items() if entry.dtype == FLOAT}
    plain, averaged = _by_object(bundle, floats) if OBJECT_GRAPH in bundle.entries else _by_variable(floats)
    notes: tuple[str, ...] = ()
    if averaged:
        notes = (f"read the averaged weights (EMA), of {len(averaged)} tensors",)
        plain.update(averaged)
    claimed = sum(bundle.entries[key].size for key in plain.values())
    if claimed > MAX_WEIGHTS:  # before it is read: tensors of a forged index may share their bytes
        raise CheckpointError(
            f"its tensors claim {claimed} bytes, but at most {MAX_WEIGHTS} are expected: this is no EfficientDet."
        )
    return {name: bundle.array(key) for name, key in plain.items()}, notes


def _by_variable(floats: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return variable -> name in the checkpoint, of plain and of averaged weights."""
    averaged = {name.removesuffix(AVERAGE): name for name in floats if name.endswith(AVERAGE)}
    plain = {name: name for name in floats if not name.endswith(AVERAGE) and not _SLOTS.fullmatch(name)}
    plain.pop("learning_rate", None)
    return plain, averaged


def _by_object(bundle: TensorBundle, floats: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the same by object, from the TrackableObjectGraph (core/protobuf/trackable_object_graph.proto)."""
    try:
        nodes = [parse_fields(node) for node in parse_fields(bundle.string(OBJECT_GRAPH)).get(1, [])]
        variables: dict[int, tuple[str, str]] = {}  # node -> (variable's name, name in the checkpoint)
        for number, node in enumerate(nodes):
            for attribute in map(parse_fields, node.get(2, [])):
                key = attribute.get(3, [b""])[0].decode("utf-8")
                if key in floats and 2 in attribute:
                    variables[number] = (attribute[2][0].decode("utf-8"), key)
        slots, averaged = set(), {}
        for node in nodes:
            for slot in map(parse_fields, node.get(3, [])):
                original, kept = slot.get(1, [0])[0], slot.get(3, [0])[0]
                slots.add(kept)
                if slot.get(2, [b""])[0] == AVERAGE_SLOT.encode() and {original, kept} <= set(variables):
                    averaged[variables[original][0]] = variables[kept][1]
    except (IndexError, struct.error, AttributeError, TypeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the checkpoint's graph of objects is damaged ({error}): copy it again.") from None
    plain = {name: key for number, (name, key) in variables.items() if number not in slots}
    return plain, averaged


def _from_folder(index: Path) -> TensorBundle:
    stem = index.name.removesuffix(INDEX)

    def read_shard(shard: int, shards: int) -> bytes:
        path = index.with_name(f"{stem}.data-{shard:05d}-of-{shards:05d}")
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise CheckpointError(
                f"its data file {path.name}, of at most {MAX_BYTES} bytes, is not beside it: copy both."
            )
        return path.read_bytes()

    with open(index, "rb") as file:
        return TensorBundle(file.read(MAX_INDEX + 1), read_shard)


def _from_archive(path: Path) -> TensorBundle:
    files: dict[str, bytes] = {}
    try:
        for name, content in _members(path):
            files[name] = content
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise CheckpointError(f"it is cut off or no archive ({reason}): copy or download it again.") from None
    base = _newest(list(files), lambda: files[STATE][:MAX_STATE].decode("utf-8", "replace"), "the archive")

    def read_shard(shard: int, shards: int) -> bytes:
        name = f"{base}.data-{shard:05d}-of-{shards:05d}"
        if name not in files:
            raise CheckpointError(f"{name} is missing in the archive: download it again.")
        return files[name]

    return TensorBundle(files[f"{base}{INDEX}"], read_shard)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the checkpoint's files in an archive, by their names without folder."""
    with open(path, "rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        stream: Any = gzip.GzipFile(fileobj=file) if zipped else file
        limited: Any = io.BufferedReader(_Limited(stream))
        with tarfile.open(fileobj=limited, mode="r|") as archive:
            for number, member in enumerate(archive):
                name = posixpath.basename(member.name)
                if number >= MAX_MEMBERS:
                    raise CheckpointError(f"the archive has more than {MAX_MEMBERS} files: this is no checkpoint.")
                if member.isreg() and (name == STATE or name.endswith(INDEX) or _SHARD.fullmatch(name)):
                    content = archive.extractfile(member)
                    yield name, content.read() if content else b""


class _Limited(io.RawIOBase):
    """A stream that ends with an error after MAX_BYTES, so that a small archive cannot unpack to any size."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._left = stream, MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise CheckpointError(f"the archive unpacks to more than {MAX_BYTES} bytes: it is not read.")
        buffer[: len(data)] = data
        return len(data)


def _newest(names: list[str], state: Callable[[], str], where: str) -> str:
    """Return the checkpoint's NAME of several: the one that the state file says, else the only one."""
    checkpoints = sorted(name.removesuffix(INDEX) for name in names if name.endswith(INDEX))
    if STATE in names:
        line = _STATE_LINE.search(state())
        newest = posixpath.basename(line[1]) if line else ""
        if newest in checkpoints:
            return newest
    if len(checkpoints) != 1:
        listed = (
            f"{len(checkpoints)} checkpoints ({', '.join(checkpoints[:3])}): name one's .index file"
            if checkpoints
            else "no .index file"
        )
        raise CheckpointError(f"{where} holds {listed}.")
    return checkpoints[0]


def _read_text(path: Path) -> str:
    with open(path, "rb") as file:
        return file.read(MAX_STATE).decode("utf-8", "replace")
