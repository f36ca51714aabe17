"""Find the state dict inside the objects that people save: training dictionaries, DataParallel, averages, benches.

Choices: averaged weights (EMA) before plain ones; among several models in one dictionary the averaged one, else the
one with the shortest prefix. Each choice is told in a note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families import effdet, zylo117

# Where trainings keep weights, best first: timm and effdet, Lightning, PyTorch's tutorials, many others.
KEYS = ("state_dict_ema", "ema_state_dict", "model_ema", "ema", "state_dict", "model_state_dict", "model", "weights")
STEMS = (zylo117.STEM, effdet.STEM)
MAX_DEPTH = 4  # of dictionaries in each other


def find_state_dict(loaded: Any, is_array: Callable[[Any], bool]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return (name -> array without prefix, notes) from whatever ``torch.load`` gave.

    Raises CheckpointError where there is no dictionary of arrays.
    """
    mapping, notes = _inner(loaded, is_array, MAX_DEPTH)
    if mapping is None:
        raise CheckpointError(
            f"the file holds {type(loaded).__name__}, no dictionary of tensors: save model.state_dict()."
        )
    prefix, note = _prefix(mapping)
    notes += note
    state = {
        name[len(prefix) :]: value for name, value in mapping.items() if name.startswith(prefix) and is_array(value)
    }
    anchors = [name for name in mapping if prefix and name.endswith(effdet.ANCHORS) and not name.startswith(prefix)]
    outside = [name for name in mapping if not name.startswith(prefix) and name not in anchors]
    if anchors:
        state[effdet.ANCHORS] = mapping[anchors[0]]
    if outside:
        notes += (f"the entries that do not begin with {prefix!r} ({len(outside)}, first {outside[0]}) are left out",)
    return state, notes


def _inner(value: Any, is_array: Callable[[Any], bool], depth: int) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    if not isinstance(value, Mapping) or depth == 0:
        return None, ()
    named = {str(name): entry for name, entry in value.items()}
    if any(is_array(entry) for entry in named.values()):
        return named, ()
    for key in KEYS:
        mapping, notes = _inner(named.get(key), is_array, depth - 1)
        if mapping is not None:
            averaged = " (averaged weights)" if "ema" in key else ""
            return mapping, (f"read {key}{averaged}", *notes)
    return None, ()


def _prefix(names: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return what stands before the names of the model that is wanted: "" , "module.", "model.", "ema.module.", ..."""
    prefixes = {name[: -len(stem)] for stem in STEMS for name in names if name == stem or name.endswith("." + stem)}
    if not prefixes:
        return "", ()
    best = min(prefixes, key=lambda prefix: ("ema" not in prefix, len(prefix)))
    if len(prefixes) == 1:
        return best, ()
    return best, (f"the file holds {len(prefixes)} models, of which the one under {best!r} is read",)
