"""Describe a model file or a checkpoint, from its header where that is enough."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

from ..artifact import META_KEY, ArtifactMeta
from ..engines.base import read_meta
from ..engines.table import engine_for, model_suffixes
from ..errors import CheckpointError, InputError, require
from ..files import parse_json, sha256_of
from ..specs import DetectorSpec, spec_for
from .parity import find_parity
from .safetensors_file import check_checksum, read_safetensors_header

SAFETENSORS = ".safetensors"
CHECKPOINT_SUFFIXES = (SAFETENSORS, ".h5", ".pth", ".pt", ".tar", ".gz", ".tgz", ".index", ".bin", ".ckpt")
_PRECISIONS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}

# (file, variant or None) -> ``edgedet.export.checkpoints.checkpoint.Checkpoint``
LoadCheckpoint = Callable[[Path, Optional[str]], Any]


@dataclass(frozen=True)
class FileSummary:
    """What every model file and checkpoint has, as ``--json`` prints it.

    sha256:        of the file itself.
    source_sha256: of the checkpoint that the file was made from; of the file itself for another code base's checkpoint.
    family:        the code base that the weights were trained with: "effdet", "zylo117" or "automl".
    variant:       the model's name in the family table.
    compared:      how far such models were compared with that code base (``parity``).
    input_hw:      (height, width) in pixels.
    classes:       number of class slots.
    parameters:    count of the numbers in all tensors; None for model files.
    notes:         choices that were made in reading a checkpoint.
    """

    file: str
    bytes: int
    sha256: str
    source_sha256: str
    family: str
    variant: str
    compared: str
    input_hw: Tuple[int, int]
    classes: int
    parameters: Optional[int]
    notes: Tuple[str, ...]


@dataclass(frozen=True)
class Info(FileSummary):
    """The description of a file, as ``--json`` prints it.

    precision: of the numbers in the file, such as "fp32" or "int8".
    versions:  of the packages that wrote a model file.
    report:    figures of the verification and the accuracy gate, as the export wrote them.
    top_anchors, max_batch: of a model file, as in ArtifactMeta.
    """

    precision: str
    class_names: Tuple[str, ...]
    versions: Dict[str, str] = field(default_factory=dict)
    report: Dict[str, Any] = field(default_factory=dict)
    top_anchors: int = 0
    max_batch: int = 1


def summarise(
    path: Path,
    spec: DetectorSpec,
    source_sha256: str,
    parameters: Optional[int] = None,
    notes: Tuple[str, ...] = (),
) -> FileSummary:
    """Summarise a file whose network is described by ``spec``; raises InputError where the file cannot be read."""
    return FileSummary(
        file=str(path),
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        source_sha256=source_sha256,
        family=spec.family,
        variant=spec.name,
        compared=find_parity(spec),
        input_hw=spec.input_hw,
        classes=spec.num_classes,
        parameters=parameters,
        notes=notes,
    )


def info_of(path: Path, variant: Optional[str] = None, load_checkpoint: Optional[LoadCheckpoint] = None) -> Info:
    """Return the description of a file.

    variant:         the model's name, for a checkpoint of another code base that does not give it.
    load_checkpoint: reads such checkpoints; it is host code, so the caller passes it in. None: they are refused.
    Raises InputError in one line where the file cannot be read or is of no known kind.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}: name a model file or a checkpoint.")
    if engine_for(path) is not None:
        return _info_from_meta(path, read_meta(path))
    suffix = path.suffix.lower()
    if suffix not in CHECKPOINT_SUFFIXES:
        known = ", ".join((*model_suffixes(), *CHECKPOINT_SUFFIXES))
        raise InputError(f"{path} is no file that edgedet knows: wanted a name ending in {known}.")
    info = _info_from_safetensors(path) if suffix == SAFETENSORS else None
    return info or _info_from_checkpoint(path, variant, load_checkpoint)


def _info_from_meta(path: Path, meta: ArtifactMeta) -> Info:
    summary = summarise(path, meta.spec, meta.source_sha256)
    return Info(
        **vars(summary),
        precision=meta.precision,
        class_names=meta.class_names,
        versions=meta.versions,
        report=meta.report,
        top_anchors=meta.top_anchors,
        max_batch=meta.max_batch,
    )


def _info_from_safetensors(path: Path) -> Optional[Info]:
    """Describe a safetensors file that edgedet wrote; return None for one that another program saved."""
    header = read_safetensors_header(path)
    try:
        embedded = parse_json(header.get("__metadata__", {}).get(META_KEY, "{}"))
        is_ours = "spec" in embedded
        if is_ours:
            spec = DetectorSpec.from_dict(embedded["spec"])
            names = tuple(str(name) for name in embedded["class_names"])
        tensors = [value for key, value in header.items() if key != "__metadata__"]
        types = sorted({str(tensor["dtype"]) for tensor in tensors})
        parameters = sum(math.prod(int(side) for side in tensor["shape"]) for tensor in tensors)
    except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        raise CheckpointError(f"{path} has damaged metadata ({error}): save it again.") from None
    check_checksum(path, embedded)
    if not is_ours:
        return None
    if len(names) != spec.num_classes:
        raise CheckpointError(f"{path} has {spec.num_classes} classes, but {len(names)} names: save it again.")
    precision = "/".join(_PRECISIONS.get(name, name) for name in types)
    summary = summarise(path, spec, str(embedded.get("sha256", "")), parameters)
    return Info(**vars(summary), precision=precision, class_names=names)


def _info_from_checkpoint(path: Path, variant: Optional[str], load_checkpoint: Optional[LoadCheckpoint]) -> Info:
    """Describe a checkpoint of another code base, which PyTorch reads."""
    if variant is not None:
        spec_for(variant)
    require("torch", f"reading {path.name}")
    if load_checkpoint is None:
        raise InputError(f"{path} is a checkpoint of another code base: `edgedet info {path}` reads it.")
    checkpoint = load_checkpoint(path, variant)
    parameters = sum(value.numel() for value in checkpoint.state.values())
    summary = summarise(path, checkpoint.spec, checkpoint.sha256, parameters, checkpoint.notes)
    return Info(**vars(summary), precision="fp32", class_names=checkpoint.class_names)
