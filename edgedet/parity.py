"""Which models were compared with the code base that they come from, number by number.

There is no other such table: tests check docs/checkpoints.md against it, and it against their own comparisons.
"""

from __future__ import annotations

from typing import Dict, FrozenSet

from .specs import PHI, SPECS, DetectorSpec

NUMBERS = "numbers"  # the code base ran with random weights; logits and codes equal ours
LAYOUT_ONLY = "layout only"  # names and shapes of all tensors were compared, no outputs
NOT_COMPARED = "not compared"  # no model of the family table

# family -> models whose outputs were compared with it; all others of the family table: layout only
COMPARED: Dict[str, FrozenSet[str]] = {
    "effdet": frozenset(SPECS),
    "zylo117": frozenset(PHI.values()),
    "automl": frozenset(f"tf_efficientdet_{size}" for size in ("d0", "d4", "d6", "d7x", "lite0", "lite3x", "lite4")),
}


def parity_of(spec: DetectorSpec) -> str:
    """Return how far a model was compared with its own code base: NUMBERS, LAYOUT_ONLY or NOT_COMPARED."""
    if spec.name not in SPECS:
        return NOT_COMPARED
    # AdvProp models differ from their twins in normalisation only
    twin = spec.name[: -len("_ap")] if spec.name.endswith("_ap") else spec.name
    return NUMBERS if twin in COMPARED.get(spec.family, ()) else LAYOUT_ONLY
