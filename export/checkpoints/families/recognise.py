"""Tell by its names which code base a state dict comes from, and bring it into the canonical layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families import Converted, automl, effdet, zylo117

_FAMILIES = (
    (effdet.recognises, effdet.canonical_from_effdet),
    (zylo117.recognises, zylo117.canonical_from_zylo117),
    (automl.recognises, automl.canonical_from_automl),
)


def canonical_from_any(state: Mapping[str, Any]) -> Converted:
    """Return the state dict in the canonical layout, with what its code base does otherwise.

    Raises CheckpointError naming the first tensors where no family knows the names.
    """
    counters = "num_batches_tracked"  # of BatchNorm's training steps
    state = {name: value for name, value in state.items() if not name.endswith(counters)}
    for recognises, canonical_from in _FAMILIES:
        if recognises(state):
            return canonical_from(state)
    some = ", ".join(list(state)[:3]) or "none"
    raise CheckpointError(
        "the names are not those of an EfficientDet of rwightman/efficientdet-pytorch, "
        f"zylo117/Yet-Another-EfficientDet-Pytorch or google/automl (first names: {some})."
    )
