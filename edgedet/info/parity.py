"""Which models were compared with the code base that they come from, number by number.

There is no other such table: tests check docs/checkpoints.md against it, and it against their own comparisons.
"""

from __future__ import annotations

from typing import Dict, FrozenSet

from ..specs import PHI, SPECS, DetectorSpec

NUMBERS = "numbers"  # the code base ran with random weights; logits and codes equal ours
NOT_COMPARED = "not compared"  # no model that this code base has in the family table

# family -> models whose outputs were compared with it
COMPARED: Dict[str, FrozenSet[str]] = {
    "effdet": frozenset(SPECS),
    "zylo117": frozenset(PHI.values()),
    "automl": frozenset(name for name in SPECS if name.startswith("tf_") and not name.endswith("_ap")),
}


def find_parity(spec: DetectorSpec) -> str:
    """Return how far a model was compared with its own code base: NUMBERS or NOT_COMPARED."""
    # AdvProp models differ from their twins in normalisation only
    twin = spec.name[: -len("_ap")] if spec.name.endswith("_ap") else spec.name
    return NUMBERS if twin in COMPARED.get(spec.family, ()) else NOT_COMPARED
