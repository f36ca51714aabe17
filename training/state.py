"""The state of a training on disk, from which a killed one goes on. Read without running anything in the file."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgedet.errors import InputError
from edgedet.files import atomic_path

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Saved:
    """A training at one moment.

    epoch, step: the next ones; step counts within the epoch.
    parts:       name -> ``state_dict`` of model, averaged weights, optimiser, schedule and scaler.
    history:     a row of figures for each epoch that is done.
    settings:    what must be the same when the training goes on.
    sums:        sums of the epoch so far.
    """

    epoch: int
    step: int
    parts: dict[str, Any]
    history: list[dict[str, float | None]]
    settings: dict[str, Any]
    sums: dict[str, float]


def save_state(saved: Saved, path: Path) -> None:
    """Write a state whole or not at all."""
    with atomic_path(path) as temporary:
        torch.save({"format": FORMAT, **vars(saved)}, temporary)


def load_state(path: Path, settings: dict[str, Any]) -> Saved:
    """Read ``save_state``'s file; raises InputError where it is none, or belongs to a training with other settings."""
    if not path.is_file():
        raise InputError(
            f"there is no {path} to go on from: leave --resume out, or name the training's folder by --out."
        )
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        if values.pop("format") != FORMAT:
            raise InputError(f"{path} was written by another edgedet: train anew without --resume.")
        saved = Saved(**values)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({str(error).splitlines()[0][:80]}): train anew without --resume."
        ) from None
    changed = [name for name, value in settings.items() if saved.settings.get(name) != value]
    if changed:
        name = changed[0]
        raise InputError(
            f"{path} was trained with {name} {saved.settings.get(name)}, now it is {settings[name]}: go on with the "
            "same options, or train anew without --resume."
        )
    return saved
