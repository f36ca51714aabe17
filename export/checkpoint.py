"""Read a checkpoint and find out which EfficientDet it is. Runs no code from the file; knows no graph.

Own format: safetensors in effdet's key layout, with ``{"edgedet": JSON of spec, class_names, sha256}`` as metadata.
"""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgedet.artifact import META_KEY
from edgedet.errors import CheckpointError
from edgedet.export.network import EfficientDet
from edgedet.files import atomic_path, sha256_of
from edgedet.specs import PHI, SPECS, DetectorSpec, spec_for

NAMED = 3  # how many offending tensors a message names


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights with all that is known of them.

    state:       effdet's key layout -> float32 tensor.
    spec:        num_classes and structure as the tensors say.
    class_names: one per class.
    sha256:      of the file that the weights came from.
    """

    state: dict[str, Tensor]
    spec: DetectorSpec
    class_names: tuple[str, ...]
    sha256: str


def load_checkpoint(path: Path, wanted: str | None = None, names_file: Path | None = None) -> Checkpoint:
    """Load a ``.pth``/``.pt`` state dict of effdet or our own ``.safetensors``.

    wanted:     the model's name in the family table, where the user gave one.
    names_file: class names, one a line; default: the file's own, STEM.json's ``classes``, else class_0, class_1, ...
    Raises CheckpointError in one line for whatever is wrong with the file.
    """
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint: {path}.")
    state, embedded = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_torch(path), {})
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    side = _side_json(path)
    if "spec" in embedded:
        spec = DetectorSpec.from_dict(embedded["spec"])
        if wanted is not None and wanted != spec.name:
            raise CheckpointError(f"{path} holds {spec.name}, not {wanted}: leave the option out or name {spec.name}.")
    else:
        hint = wanted or _name_hint(path, side)
        spec = _spec_of(state, hint, named_by_user=wanted is not None, path=path)
    _check_tensors(state, spec, path)
    names = _class_names(spec.num_classes, names_file, embedded.get("class_names") or side.get("classes"), path)
    return Checkpoint(
        {key: value.float() for key, value in state.items()}, spec, names, embedded.get("sha256") or sha256_of(path)
    )


def save_checkpoint(checkpoint: Checkpoint, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write our own format; ``dtype`` float16 halves the file (the demo's)."""
    from safetensors.torch import save_file

    meta = {
        "spec": checkpoint.spec.to_dict(),
        "class_names": list(checkpoint.class_names),
        "sha256": checkpoint.sha256,
    }
    tensors = {key: value.to(dtype).contiguous() for key, value in checkpoint.state.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {META_KEY: json.dumps(meta)})


def network_from_checkpoint(checkpoint: Checkpoint) -> EfficientDet:
    """Return the network in eval mode with the checkpoint's weights."""
    with torch.device("meta"):
        network = EfficientDet(checkpoint.spec)
    missing = network.load_state_dict(checkpoint.state, strict=False, assign=True).missing_keys
    for name in missing:  # only BatchNorm's step counters are left out; they play no part in eval mode
        owner, _, key = name.rpartition(".")
        network.get_submodule(owner).register_buffer(key, torch.zeros((), dtype=torch.long))
    return network.eval()


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} is not a plain state dict: it holds Python objects, which could run code. Save one with "
            "torch.save(model.state_dict(), FILE)."
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is damaged or no PyTorch checkpoint ({reason}): copy or save it again."
        ) from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()) or not state:
        raise CheckpointError(f"{path} holds no state dict (name -> tensor); save model.state_dict().")
    return dict(state)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            embedded = json.loads((file.metadata() or {}).get(META_KEY, "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, embedded  # noqa: SIM118 - safe_open is no dict
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}): copy or save it again.") from None


def _side_json(path: Path) -> dict[str, Any]:
    """STEM.json beside the checkpoint: ``classes`` and ``arch``, as effdet trainings leave it."""
    side = path.with_suffix(".json")
    if not side.is_file():
        return {}
    try:
        values = json.loads(side.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{side} is no JSON ({error}): mend it or move it away.") from None
    return values if isinstance(values, dict) else {}


def _name_hint(path: Path, side: dict[str, Any]) -> str | None:
    """The model's name as the side file or the file's own name gives it."""
    arch = side.get("arch")
    if arch in SPECS:
        return str(arch)
    stem = path.stem.lower()
    found = [name for name in SPECS if stem == name or stem.startswith((name + "_", name + "-", name + "."))]
    return max(found, key=len) if found else None


def _shapes(spec: DetectorSpec) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = EfficientDet(spec)
    return {
        key: tuple(value.shape)
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def _spec_of(state: dict[str, Tensor], hint: str | None, named_by_user: bool, path: Path) -> DetectorSpec:
    """Find the row of the family table that these tensors fit; ``hint`` decides between equal structures."""
    classes = _num_classes(state, path)
    found = [name for name, spec in SPECS.items() if _fits(state, replace(spec, num_classes=classes))]
    if hint in found:
        return replace(SPECS[hint], num_classes=classes)
    if named_by_user and hint is not None:
        fits = f"these weights fit {' or '.join(found)}" if found else "the weights fit no model of the family"
        raise CheckpointError(
            f"{path} does not hold {hint}: {_differences(state, replace(spec_for(hint), num_classes=classes))}; {fits}."
        )
    if not found:
        guess = hint or min(SPECS, key=lambda name: len(set(state) ^ set(_shapes(SPECS[name]))))
        raise CheckpointError(
            f"{path} fits no EfficientDet of the family; nearest is {guess}, but "
            f"{_differences(state, replace(spec_for(guess), num_classes=classes))}."
        )
    if len(found) > 1:
        raise CheckpointError(
            f"{path} may be {' or '.join(found)}: they share all tensors but not anchors, size or normalisation. "
            "Say which with --variant NAME."
        )
    return replace(SPECS[found[0]], num_classes=classes)


def _num_classes(state: dict[str, Tensor], path: Path) -> int:
    bias = state.get("class_net.predict.conv_pw.bias")
    anchors = next(iter(SPECS.values())).anchors_per_cell
    if bias is None or bias.ndim != 1 or len(bias) == 0 or len(bias) % anchors:
        raise CheckpointError(
            f"{path} is no EfficientDet in effdet's layout: class_net.predict.conv_pw.bias should hold "
            f"{anchors} values a class, got {'nothing' if bias is None else tuple(bias.shape)}."
        )
    return len(bias) // anchors


def _fits(state: dict[str, Tensor], spec: DetectorSpec) -> bool:
    """Whether the structure is the spec's, judged by the tensors that differ between variants."""
    counts = [
        len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})
        for prefix in ("fpn.cell.", "class_net.conv_rep.", "class_net.bn_rep.0.")
    ]
    if counts != [spec.bifpn_repeats, spec.head_repeats, spec.num_levels]:
        return False
    shapes = _shapes(spec)
    common = set(shapes) & set(state)
    wrong = sum(tuple(state[key].shape) != shapes[key] for key in common) + len(set(shapes) ^ set(state))
    return wrong <= len(shapes) // 20  # a few damaged tensors are named later, under the right model


def _differences(state: dict[str, Tensor], spec: DetectorSpec) -> str:
    """Say which tensors are missing, too many or of another shape, the first few of each; "" where all fit."""
    shapes = _shapes(spec)
    missing = [key for key in shapes if key not in state]
    extra = [key for key in state if key not in shapes]
    reshaped = [
        f"{key} is {tuple(state[key].shape)}, wanted {shapes[key]}"
        for key in shapes
        if key in state and tuple(state[key].shape) != shapes[key]
    ]
    parts = []
    for what, keys in (("missing", missing), ("unknown", extra), ("of another shape", reshaped)):
        if keys:
            more = f", and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
            parts.append(f"{len(keys)} tensors are {what} ({'; '.join(keys[:NAMED])}{more})")
    return ", ".join(parts)


def _check_tensors(state: dict[str, Tensor], spec: DetectorSpec, path: Path) -> None:
    differences = _differences(state, spec)
    if differences:
        raise CheckpointError(f"{path} is not a whole {spec.name}: {differences}.")
    bad = [key for key, value in state.items() if not bool(torch.isfinite(value.float()).all())]
    if bad:
        more = f", and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise CheckpointError(
            f"{path} holds NaN or infinite numbers in {'; '.join(bad[:NAMED])}{more}: train it again."
        )


def _class_names(count: int, names_file: Path | None, known: Any, path: Path) -> tuple[str, ...]:
    if names_file is not None:
        try:
            lines = [line.strip() for line in names_file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"cannot read class names from {names_file}: {error}.") from None
        known, source = [line for line in lines if line], str(names_file)
    else:
        source = f"{path.with_suffix('.json')}"
    if known is None:
        return tuple(f"class_{index}" for index in range(count))
    if not isinstance(known, list) or len(known) != count:
        given = len(known) if isinstance(known, list) else "no list of"
        raise CheckpointError(f"{path} has {count} classes, but {source} gives {given} names: one name a class.")
    return tuple(str(name) for name in known)


def name_of_phi(phi: int) -> str:
    """Return the family table's name for compound scaling ``phi`` 0..8 (8 is D7x)."""
    if phi not in PHI:
        raise CheckpointError(f"--phi takes 0 to {max(PHI)}; got {phi}.")
    return PHI[phi]


def parse_size(text: str) -> tuple[int, int]:
    """Parse "HxW" or "S"; raises CheckpointError with the form that is wanted."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdigit() for part in parts) or math.prod(map(int, parts)) > 1 << 26:
        raise CheckpointError(f"--size takes HxW in pixels, for example 384x640; got {text!r}.")
    return int(parts[0]), int(parts[-1])
