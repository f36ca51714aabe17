"""Which checkpoint an export starts from: a file, the bundled one or official weights; at a size, with some classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedet import demo
from edgedet.files import cache_folder
from edgedet.progress import Say
from edgedet.specs import resized, spec_for

if TYPE_CHECKING:
    from edgedet.export.checkpoints.checkpoint import Checkpoint
    from edgedet.export.checkpoints.training import Training

DEMO = "demo"  # the name of the bundled weights on the command line


@dataclass(frozen=True)
class WeightsChoice:
    """Weights, and what of them is exported.

    weights:    file, "demo" for the bundled ones, or None for the official weights of ``variant`` or ``phi``.
    variant:    name in the family table; ``phi`` (0 to 8) names one, too; both None: read from the weights.
    names_file: class names, one a line; None: as ``load_checkpoint`` finds them.
    classes:    names of the classes to keep; None: all.
    input_hw:   (height, width) of the network in pixels; None: the model's own.
    training:   what the user told of the training; None: nothing.
    """

    weights: str | None = None
    phi: int | None = None
    variant: str | None = None
    names_file: Path | None = None
    classes: tuple[str, ...] | None = None
    input_hw: tuple[int, int] | None = None
    training: Training | None = None

    @property
    def is_demo(self) -> bool:
        """Whether these are the bundled weights."""
        return self.weights == DEMO


def open_weights(choice: WeightsChoice, say: Say) -> tuple[Checkpoint, Path]:
    """Return the checkpoint and the file that it was read from, which is downloaded where it must be.

    say: takes a line for each choice that was made in reading the file.
    Raises InputError for a name or class that is not known, CheckpointError for a file that cannot be used.
    """
    from edgedet.export.checkpoints.checkpoint import load_checkpoint, name_of_phi
    from edgedet.export.checkpoints.download import fetch
    from edgedet.export.checkpoints.registry import find_url
    from edgedet.export.checkpoints.select_classes import with_classes
    from edgedet.export.checkpoints.training import UNTOLD

    variant = choice.variant or (None if choice.phi is None else name_of_phi(choice.phi))
    if variant is not None:
        spec_for(variant)
    if choice.weights is None:
        path = fetch(find_url(str(variant)), cache_folder())
    else:
        path = demo.WEIGHTS if choice.is_demo else Path(choice.weights)
    checkpoint = load_checkpoint(
        path, variant, choice.names_file, exact=choice.variant is not None, training=choice.training or UNTOLD
    )
    for line in checkpoint.notes:
        say(f"{path}: {line}")
    if choice.classes is not None:
        checkpoint = with_classes(checkpoint, choice.classes)
    if choice.input_hw is not None:
        checkpoint = replace(checkpoint, spec=resized(checkpoint.spec, choice.input_hw))
    return checkpoint, path


def make_stem(path: Path) -> str:
    """Return what a model file made from these weights is called: the file's name without suffixes.

    TensorFlow's archives lose ``.tar``, too; its other files are all called "model", so their folder gives the name.
    """
    if path.suffix == ".index" or path.is_dir():
        folder = path if path.is_dir() else path.resolve().parent
        return folder.name
    return path.stem.removesuffix(".tar")
