"""Find out which EfficientDet a weight file holds, whatever code base it is from. Knows no file format, no graph.

Own format: safetensors in effdet's key layout, with ``{"edgedet": JSON of spec, class_names, sha256}`` as metadata.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgedet.artifact import META_KEY
from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families import Converted
from edgedet.export.checkpoints.families.recognise import canonical_from_any
from edgedet.export.checkpoints.read_weights import read_weights
from edgedet.export.checkpoints.registry import PRETRAINED, hash_prefix
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.files import atomic_path, sha256_of
from edgedet.judge.coco import COCO_SLOTS
from edgedet.specs import PHI, SPECS, DetectorSpec, spec_for

NAMED = 3  # how many offending tensors a message names


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights with all that is known of them.

    state:       effdet's key layout -> float32 tensor.
    spec:        num_classes and structure as the tensors say.
    class_names: one per class.
    sha256:      of the file that the weights came from.
    notes:       choices that the user should know of, one line each.
    """

    state: dict[str, Tensor]
    spec: DetectorSpec
    class_names: tuple[str, ...]
    sha256: str
    notes: tuple[str, ...] = ()


def load_checkpoint(
    path: Path, wanted: str | None = None, names_file: Path | None = None, exact: bool = True
) -> Checkpoint:
    """Load a weight file of any family that ``edgedet.export.checkpoints.families`` knows, or our own ``.safetensors``.

    wanted:     the model's name in the family table, where the user gave one.
    names_file: class names, one a line; default: the file's own, STEM.json's ``classes``, COCO's where there are 90
                classes as in official models, else class_0, class_1, ...
    exact:      False where ``wanted`` only tells the size (``--phi``), so that effdet's symmetric twin will do as well.
    Raises CheckpointError in one line for whatever is wrong with the file.
    """
    file = read_weights(path)
    sha256 = sha256_of(path)
    side = _side_json(path)
    notes = file.notes
    if "spec" in file.embedded:
        state = dict(file.arrays)
        spec = DetectorSpec.from_dict(file.embedded["spec"])
        if wanted is not None and wanted != spec.name:
            raise CheckpointError(f"{path} holds {spec.name}, not {wanted}: leave the option out or name {spec.name}.")
    else:
        try:
            converted = canonical_from_any(file.arrays)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        state = {key: torch.as_tensor(value) for key, value in converted.state.items()}
        hints = _name_hints(path, sha256, file.model or str(side.get("arch", "")))
        spec = _spec_of(state, converted, wanted, exact, hints, path)
        spec = replace(spec, **converted.spec_changes)
        notes += converted.notes
    _check_tensors(state, spec, path)
    known = file.embedded.get("class_names") or side.get("classes")
    if known is None and names_file is None and spec.num_classes == len(COCO_SLOTS):
        known = list(COCO_SLOTS)
        notes += (f"{len(known)} classes without names are taken for COCO's: --names FILE for others",)
    return Checkpoint(
        {key: value.float() for key, value in state.items()},
        spec,
        _class_names(spec.num_classes, names_file, known, path),
        file.embedded.get("sha256") or sha256,
        notes,
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


def _name_hints(path: Path, sha256: str, trained_as: str) -> list[str]:
    """Names that the file's hash, the training or the file's own name may mean, the likelier first."""
    stem = path.stem.lower().replace("-", "_") + "_"
    found = [name for name in SPECS if stem.startswith((name + "_", name.removeprefix("tf_") + "_"))]
    official = [name for name, file in PRETRAINED.items() if hash_prefix(file) == sha256[: len(hash_prefix(file))]]
    return official + [name for name in SPECS if name == trained_as] + sorted(found, key=len, reverse=True)


@cache
def _shapes(spec: DetectorSpec) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = EfficientDet(spec)
    return {
        key: tuple(value.shape)
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def _spec_of(
    state: dict[str, Tensor], converted: Converted, wanted: str | None, exact: bool, hints: list[str], path: Path
) -> DetectorSpec:
    """Find the row of the family table that these tensors fit; name and options decide between equal structures."""
    classes = _num_classes(state, path)

    def fits(name: str) -> bool:
        return _fits(state, replace(spec_for(name), num_classes=classes))

    models = converted.models
    if wanted is not None and not exact and wanted.removeprefix("tf_") in models:
        wanted = wanted.removeprefix("tf_")
    if not exact and hints and hints[0] == f"{wanted}_ap":
        wanted = hints[0]  # --phi names the size; the file says that it was trained with AdvProp
    names = [wanted] if wanted else [name for name in hints if name.removesuffix("_ap") in models]
    chosen = [name for name in names if fits(name)]
    found = [name for name in models if fits(name)]
    if converted.spec_changes.get("family", "effdet") == "effdet":  # the only code base with AdvProp weights
        found += [f"{name}_ap" for name in found if f"{name}_ap" in SPECS]
    if wanted is not None and not chosen:
        instead = f"these weights fit {' or '.join(found)}" if found else "the weights fit no model of the family"
        raise CheckpointError(
            f"{path} does not hold {wanted}: {_differences(state, replace(spec_for(wanted), num_classes=classes))}; "
            f"{instead}."
        )
    if not found:
        guess = next(iter(hints), None) or min(models, key=lambda name: len(set(state) ^ set(_shapes(SPECS[name]))))
        raise CheckpointError(
            f"{path} fits no EfficientDet of the family; nearest is {guess}, but "
            f"{_differences(state, replace(spec_for(guess), num_classes=classes))}."
        )
    if not chosen and "anchor_scale" in converted.spec_changes:  # a bench's anchors tell D7 from D6
        scale = converted.spec_changes["anchor_scale"]
        found = [name for name in found if SPECS[name].anchor_scale == scale] or found
    if not chosen and len(found) > 1:
        _check_tensors(state, replace(SPECS[found[0]], num_classes=classes), path)  # damage goes before doubt
        raise CheckpointError(
            f"{path} may be {' or '.join(found)}: they share all tensors but not anchors, size or normalisation. "
            "Say which with --variant NAME."
        )
    return replace(SPECS[(chosen or found)[0]], num_classes=classes)


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
