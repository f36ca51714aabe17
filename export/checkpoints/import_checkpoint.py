"""Turn a checkpoint of any family into edgedet's own ``.safetensors`` file."""

from __future__ import annotations

from pathlib import Path

from edgedet.export.checkpoints.training import UNTOLD, Training
from edgedet.info.info import FileSummary, summarise
from edgedet.specs import spec_for


def import_checkpoint(
    path: Path,
    output: Path,
    variant: str | None = None,
    names_file: Path | None = None,
    training: Training = UNTOLD,
) -> FileSummary:
    """Write the weights of ``path`` to ``output``, and return the summary of that file.

    variant:    the model's name where the checkpoint leaves it open.
    names_file: class names, one a line.
    training:   what the user stated about the training.
    Raises CheckpointError in one line where the checkpoint cannot be used.
    """
    from edgedet.export.checkpoints.checkpoint import load_checkpoint, save_checkpoint

    if variant is not None:
        spec_for(variant)
    checkpoint = load_checkpoint(path, variant, names_file, training=training)
    save_checkpoint(checkpoint, output)
    parameters = sum(value.numel() for value in checkpoint.state.values())
    return summarise(output, checkpoint.spec, checkpoint.sha256, parameters, checkpoint.notes)
