"""Read the arrays of a weight file by name, from every format of such files. No code of a file runs.

The first bytes tell the format, not the suffix. All sizes that a file claims are checked before they cost memory:
torch.save's archives are not compressed, so an archive that is, or that claims more than it holds, is refused.
"""

from __future__ import annotations

import argparse
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgedet import demo
from edgedet.artifact import MAX_META_BYTES, META_KEY
from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families.keras_h5 import NOT_WHOLE, arrays_from_h5
from edgedet.export.checkpoints.families.tf_checkpoint import arrays_from_tf_checkpoint, is_tf_checkpoint
from edgedet.export.checkpoints.families.wrappers import find_state_dict
from edgedet.files import parse_json
from edgedet.info.safetensors_file import check_checksum

HEAD_BYTES = 512  # tar's first block
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"
KERAS_ENTRY = "model.weights.h5"  # in a .keras archive
MAX_NUMBERS = 1 << 28  # in all tensors; D7x has 7.7e7
# What a training dictionary may hold beside tensors and plain values: effdet's train.py keeps its options.
HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [argparse.Namespace]
# Not everything is caught by name: an untrusted file makes torch.load fail in whatever way its bytes lead to.
DAMAGED = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError, OSError)


@dataclass(frozen=True, eq=False)
class WeightFile:
    """What a file holds.

    arrays:   name -> torch tensor, or numpy array for files of Keras and TensorFlow.
    embedded: what edgedet itself wrote beside them.
    notes:    choices that were made, one line each.
    model:    the name that the training gave it, "" where it gave none.
    """

    arrays: Mapping[str, Any]
    embedded: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    model: str = ""


def read_weights(path: Path) -> WeightFile:
    """Read a ``.pth``, ``.safetensors``, Keras ``.h5`` or TensorFlow ``.tar.gz`` or ``.index`` file.

    Raises CheckpointError in one line.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}: name a file, or demo.")
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise CheckpointError(f"{path} is empty: copy or save it again.")
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(f"{path} is a web page, no weights: download the file itself, not the page about it.")
    if head.startswith(HDF5_MAGIC):
        return WeightFile(arrays_from_h5(path))
    if is_tf_checkpoint(path, head):
        arrays, notes = arrays_from_tf_checkpoint(path)
        weights = WeightFile(arrays, notes=notes)
    elif path.suffix == ".safetensors":
        weights = _read_safetensors(path)
    else:
        weights = _read_torch(path, zipped=head.startswith(ZIP_MAGIC))
    if sum(math.prod(value.shape) for value in weights.arrays.values()) > MAX_NUMBERS:
        raise CheckpointError(f"{path} claims more than {MAX_NUMBERS} numbers: this is no EfficientDet.")
    return weights


def _read_torch(path: Path, zipped: bool) -> WeightFile:
    if zipped:
        _check_archive(path)
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on pickle protocols; what matters is raised
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        wants = re.search(r"GLOBAL (\S+)", str(error))
        if wants:
            raise CheckpointError(
                f"{path} is not loaded, because it asks for {wants[1]}, which could run code. Where you trust it, save "
                "its weights alone where it was made: torch.save(model.state_dict(), FILE)."
            ) from None
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise CheckpointError(f"{path} is damaged or no PyTorch file ({reason}): copy or save it again.") from None
    try:
        arrays, notes = find_state_dict(loaded, lambda value: isinstance(value, Tensor))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    arch = loaded.get("arch")  # as timm's and effdet's trainings write it
    return WeightFile(arrays, notes=notes, model=arch if isinstance(arch, str) else "")


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is cut off or damaged ({error}): copy or download it again.") from None
    size = path.stat().st_size
    if any(entry.filename == KERAS_ENTRY for entry in entries):
        raise CheckpointError(f"{path} is a .keras archive, {NOT_WHOLE}.")
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"{path} is an archive of {size} bytes that unpacks to {claimed}, which torch.save never makes: it is not "
            "opened."
        )


def _read_safetensors(path: Path) -> WeightFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(META_KEY, "{}")
            if len(text) > MAX_META_BYTES:
                raise CheckpointError(
                    f"{path} has {len(text)} bytes of metadata; at most {MAX_META_BYTES} are expected."
                )
            embedded = parse_json(text)
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safe_open is no dict
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}): copy or save it again.") from None
    if not isinstance(embedded, dict):
        raise CheckpointError(f"{path} has metadata that edgedet did not write: save it again.")
    has_checksum = check_checksum(path, embedded)
    if "spec" in embedded:
        if has_checksum or path == demo.WEIGHTS:
            return WeightFile(arrays, embedded)
        return WeightFile(
            arrays, embedded, ("the file has no checksum, because edgedet 0.1 saved it: `edgedet import` adds one",)
        )
    state, notes = find_state_dict(arrays, lambda value: isinstance(value, Tensor))
    return WeightFile(state, notes=notes)
