"""A checkpoint of any family -> edgedet's own ``.safetensors`` file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedet.export.checkpoints.training import UNTOLD, Training
from edgedet.files import sha256_of
from edgedet.parity import parity_of
from edgedet.specs import spec_for


@dataclass(frozen=True)
class ImportResult:
    """What an import recognised and wrote, as ``--json`` prints it; ``source_sha256`` is of the checkpoint."""

    file: str
    bytes: int
    sha256: str
    source_sha256: str
    family: str
    variant: str
    compared: str
    input_hw: tuple[int, int]
    classes: int
    parameters: int
    notes: tuple[str, ...]


def import_checkpoint(
    path: Path,
    output: Path,
    variant: str | None = None,
    names_file: Path | None = None,
    training: Training = UNTOLD,
) -> ImportResult:
    """Write the weights of ``path`` to ``output``.

    variant:    the model's name where the checkpoint leaves it open.
    names_file: class names, one a line.
    training:   what the user told of the training.
    Raises CheckpointError in one line where the checkpoint cannot be used.
    """
    from edgedet.export.checkpoints.checkpoint import load_checkpoint, save_checkpoint

    if variant is not None:
        spec_for(variant)
    checkpoint = load_checkpoint(path, variant, names_file, training=training)
    save_checkpoint(checkpoint, output)
    spec = checkpoint.spec
    return ImportResult(
        file=str(output),
        bytes=output.stat().st_size,
        sha256=sha256_of(output),
        source_sha256=checkpoint.sha256,
        family=spec.family,
        variant=spec.name,
        compared=parity_of(spec),
        input_hw=spec.input_hw,
        classes=spec.num_classes,
        parameters=sum(value.numel() for value in checkpoint.state.values()),
        notes=checkpoint.notes,
    )
