"""Find out which EfficientDet a weight file holds, from whatever code base it comes.

Own format: safetensors in effdet's key layout, with ``{"edgedet": JSON of spec, class_names, sha256}`` as metadata.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgedet.artifact import META_KEY
from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families.recognise import canonical_from_any
from edgedet.export.checkpoints.families.tf_checkpoint import find_index
from edgedet.export.checkpoints.read_weights import read_weights
from edgedet.export.checkpoints.training import MAX_PIXELS, UNTOLD, Training, describe_assumptions
from edgedet.export.checkpoints.variant import check_tensors, find_hints, find_spec, is_official
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.files import atomic_path, parse_json, read_text, sha256_of
from edgedet.info.safetensors_file import (
    CHECKSUM_FIELD,
    FORMAT_FIELD,
    FORMAT_WITH_CHECKSUM,
    NO_CHECKSUM,
    write_checksum,
)
from edgedet.judge.coco import COCO_SLOTS
from edgedet.specs import PHI, DetectorSpec

MOST_NAMES_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights with all that is known of them.

    state:       effdet's key layout -> float32 tensor.
    spec:        num_classes and structure as the tensors say.
    class_names: one per class.
    sha256:      of the file that the weights came from.
    notes:       choices that the user should know of, one line each.
    """

    state: dict[str, Tensor]
    spec: DetectorSpec
    class_names: tuple[str, ...]
    sha256: str
    notes: tuple[str, ...] = ()


def load_checkpoint(
    path: Path,
    variant: str | None = None,
    names_file: Path | None = None,
    exact: bool = True,
    training: Training = UNTOLD,
) -> Checkpoint:
    """Load the weights of any family that ``edgedet.export.checkpoints.families`` knows, or our own ``.safetensors``.

    path:       file, or the folder or the .index of a TensorFlow checkpoint.
    variant:    the model's name in the family table, where the user gave one.
    names_file: class names, one a line; default: the file's own, the project's, STEM.names beside it, STEM.json's
                ``classes``, COCO's where there are 90 classes as in official models, else class_0, class_1, ...
    exact:      False where ``variant`` only tells the size (``--phi``), so that a twin of that size will do as well.
    training:   what the user told of the training that the tensors do not tell.
    Raises CheckpointError in one line for whatever is wrong with the file.
    """
    path = find_index(path)
    file = read_weights(path)
    sha256 = sha256_of(path)
    side = _side_json(path)
    notes = file.notes
    if "spec" in file.embedded:
        state = dict(file.arrays)
        spec = DetectorSpec.from_dict(file.embedded["spec"])
        if variant is not None and variant != spec.name:
            raise CheckpointError(f"{path} holds {spec.name}, not {variant}: leave the option out or name {spec.name}.")
        if training != UNTOLD:
            raise CheckpointError(f"{path} says itself how it was trained: leave --project and the anchor options out.")
        check_tensors(state, spec, path)
    else:
        try:
            converted = canonical_from_any(file.arrays)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        state = {key: torch.as_tensor(value) for key, value in converted.state.items()}
        hints = find_hints(path, sha256, file.model or str(side.get("arch", "")))
        spec, choice = find_spec(state, converted, variant, exact, hints, training, path)
        notes += (*converted.notes, *choice)
        anchors_known = "aspect_ratios" in converted.spec_changes and spec.family == "effdet"
        if not is_official(sha256):
            notes += tuple(filter(None, [describe_assumptions(spec, training, anchors_known)]))
    known = file.embedded.get("class_names") or training.class_names
    beside = path.with_suffix(".names")
    if known is None and names_file is None and beside.is_file():
        names_file = beside
        notes += (f"the class names are read from {beside}",)
    source = "the project" if known else str(path.with_suffix(".json"))
    known = known or side.get("classes")
    if known is None and names_file is None and spec.num_classes == len(COCO_SLOTS):
        known = list(COCO_SLOTS)
        notes += (
            f"the file names none of its {len(known)} classes, so they are taken for COCO's: give --names FILE if they "
            "are others",
        )
    return Checkpoint(
        {key: value.float() for key, value in state.items()},
        spec,
        _class_names(spec.num_classes, names_file, known, path, source),
        file.embedded.get("sha256") or sha256,
        notes,
    )


def save_checkpoint(checkpoint: Checkpoint, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write our own format; ``dtype`` float16 halves the file (the demo's)."""
    from safetensors.torch import save

    meta = {
        "spec": checkpoint.spec.to_dict(),
        "class_names": list(checkpoint.class_names),
        "sha256": checkpoint.sha256,
        FORMAT_FIELD: FORMAT_WITH_CHECKSUM,
        CHECKSUM_FIELD: NO_CHECKSUM,
    }
    tensors = {key: value.to(dtype).contiguous() for key, value in checkpoint.state.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, {META_KEY: json.dumps(meta)}))  # save_file has errors of its own for disks
        write_checksum(temporary)


def network_from_checkpoint(checkpoint: Checkpoint) -> EfficientDet:
    """Return the network in eval mode with the checkpoint's weights."""
    with torch.device("meta"):
        network = EfficientDet(checkpoint.spec)
    missing = network.load_state_dict(checkpoint.state, strict=False, assign=True).missing_keys
    for name in missing:  # only BatchNorm's step counters are left out; they play no part in eval mode
        owner, _, key = name.rpartition(".")
        network.get_submodule(owner).register_buffer(key, torch.zeros((), dtype=torch.long))
    return network.eval()


def _side_json(path: Path) -> dict[str, Any]:
    """Return what STEM.json beside the checkpoint holds: ``classes`` and ``arch``, as trainings by effdet write it."""
    side = path.with_suffix(".json")
    if not side.is_file():
        return {}
    try:
        values = parse_json(side.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise CheckpointError(f"{side} is no JSON ({error}): mend it or move it away.") from None
    return values if isinstance(values, dict) else {}


def _class_names(count: int, names_file: Path | None, known: Any, path: Path, source: str) -> tuple[str, ...]:
    """Return a name for each class; ``source``: what gave ``known``, for messages."""
    if names_file is not None:
        known, source = read_names(names_file), str(names_file)
    if known is None:
        return tuple(f"class_{index}" for index in range(count))
    if not isinstance(known, (list, tuple)) or len(known) != count:
        given = len(known) if isinstance(known, (list, tuple)) else "no list of"
        raise CheckpointError(
            f"{path} has {count} classes, but {source} gives {given} names: give one name for each class."
        )
    names = tuple(str(name) for name in known)
    for name in names:
        if not name.isprintable():  # escape codes would act on whoever prints the name
            raise CheckpointError(f"the class name {name!r} of {source} holds control characters: leave them out.")
    return names


def read_names(path: Path) -> list[str]:
    """Return the class names of a text file, one a line; raises InputError where it cannot be read."""
    text = read_text(path, "give a text file with one class name a line", MOST_NAMES_BYTES)
    return [line.strip() for line in text.splitlines() if line.strip()]


def name_of_phi(phi: int) -> str:
    """Return the family table's name for compound scaling ``phi`` 0..8 (8 is D7x)."""
    if phi not in PHI:
        raise CheckpointError(f"--phi takes 0 to {max(PHI)}; got {phi}.")
    return PHI[phi]


def parse_size(text: str) -> tuple[int, int]:
    """Parse "HxW" or "S"; raises CheckpointError with the form that is wanted."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdigit() for part in parts) or math.prod(map(int, parts)) > MAX_PIXELS:
        raise CheckpointError(f"--size takes HxW in pixels, for example 384x640; got {text!r}.")
    return int(parts[0]), int(parts[-1])
