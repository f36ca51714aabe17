"""Keep some classes of a checkpoint: the class head's last convolution loses the channels of the others."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from edgedet.errors import InputError
from edgedet.export.checkpoints.checkpoint import Checkpoint

PREDICTION = "class_net.predict.conv_pw"
NEAR = 0.6  # difflib's own cutoff
MOST = 5  # names that a message lists


def with_classes(checkpoint: Checkpoint, names: Sequence[str]) -> Checkpoint:
    """Return the checkpoint with the classes ``names``, in that order; their scores stay what they were.

    Names are compared without case. Raises InputError for no name, one that the model lacks, or one named twice.
    """
    slots = {name.lower(): slot for slot, name in reversed(list(enumerate(checkpoint.class_names)))}
    names = [name.strip().lower() for name in names if name.strip()]
    if not names:
        raise InputError(f"--classes wants names, for example --classes {checkpoint.class_names[0]}.")
    unknown = [name for name in names if name not in slots]
    if unknown:
        raise InputError(f"the model has no class {unknown[0]!r}; {_near(unknown[0], checkpoint.class_names)}.")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"--classes names {twice[0]!r} twice: name each class once.")
    kept = [slots[name] for name in names]
    state = dict(checkpoint.state)
    for leaf in ("weight", "bias"):
        state[f"{PREDICTION}.{leaf}"] = _sliced(state[f"{PREDICTION}.{leaf}"], checkpoint.spec.num_classes, kept)
    return replace(
        checkpoint,
        state=state,
        spec=replace(checkpoint.spec, num_classes=len(kept)),
        class_names=tuple(checkpoint.class_names[slot] for slot in kept),
    )


def _sliced(channels: Tensor, num_classes: int, kept: list[int]) -> Tensor:
    """Keep some classes of (anchors x classes, ...), class innermost."""
    by_anchor = channels.reshape(-1, num_classes, *channels.shape[1:])
    return by_anchor[:, kept].reshape(-1, *channels.shape[1:])


def _near(name: str, known: Sequence[str]) -> str:
    by_lower = {item.lower(): item for item in known}
    near = difflib.get_close_matches(name, by_lower, MOST, NEAR) or [item for item in by_lower if name in item][:MOST]
    if near:
        return f"near it are {', '.join(by_lower[item] for item in near)}"
    more = f" and {len(known) - MOST} more" if len(known) > MOST else ""
    return f"it has {', '.join(known[:MOST])}{more} (`edgedet info` lists all)"
