"""Weights of other code bases, in edgedet's key layout, which is effdet's ``tf_efficientdet_*``.

A module a family with ``recognises(names) -> bool`` and ``canonical_from_<family>(state) -> Converted``: pure functions
from a mapping of names to arrays to one of canonical names to arrays. Names that a map does not know come back as they
are, so that the check against the family table names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from edgedet.errors import CheckpointError
from edgedet.export.network.backbone import SCALING, list_stage_shapes

# (w, h) factors of the anchors as aspect_ratios=[1.0, 2.0, 0.5] gives them; the PyTorch ports round to ROUNDED_RATIOS
EXACT_RATIOS = ((1.0, 1.0), (2**0.5, 2**-0.5), (2**-0.5, 2**0.5))


@dataclass(frozen=True, eq=False)
class Converted:
    """Weights in the canonical layout, and what their code base does otherwise than ``tf_efficientdet_*``.

    state:        canonical name -> array or tensor.
    spec_changes: for ``dataclasses.replace`` on the DetectorSpec that the state's shapes fit.
    models:       rows of the family table that the tensors may be of, without AdvProp's (``_ap``), which share the
                  tensors of their twins.
    notes:        one line for each choice that the user should know of.
    """

    state: dict[str, Any]
    spec_changes: dict[str, Any]
    models: tuple[str, ...]
    notes: tuple[str, ...] = ()


# Number of blocks -> blocks of each stage. B1 and B2 share theirs, so do Lite1 and Lite2, B0 and Lite0.
_STAGES = {
    sum(stages): stages for stages in (tuple(len(blocks) for blocks in list_stage_shapes(name)[1]) for name in SCALING)
}


def count(names: Iterable[str], pattern: str) -> int:
    """Return one more than the highest number that ``pattern``'s group finds at the start of a name; 0 for none."""
    indices = [int(match[1]) for match in map(re.compile(pattern).match, names) if match]
    return max(indices, default=-1) + 1


def list_block_paths(blocks: int) -> list[str]:
    """Return "stage.index" of each of a backbone's blocks; raises CheckpointError where no EfficientNet has as many."""
    if blocks not in _STAGES:
        known = ", ".join(map(str, sorted(_STAGES)))
        raise CheckpointError(
            f"the backbone has {blocks} blocks, an EfficientNet has {known}: the file is not whole, or no EfficientDet."
        )
    return list(
        chain.from_iterable([f"{stage}.{i}" for i in range(repeats)] for stage, repeats in enumerate(_STAGES[blocks]))
    )


def list_node_levels(max_level: int) -> list[tuple[str, int]]:
    """Return ("up" or "down", level) of a BiFPN cell's nodes, in the canonical order of ``fnode``."""
    up = [("up", level) for level in range(max_level - 1, 2, -1)]
    return up + [("down", level) for level in range(4, max_level + 1)]
