"""Find the row of the family table that tensors fit, and decide between rows that share all tensors."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from edgedet.errors import AmbiguousCheckpoint, CheckpointError
from edgedet.export.checkpoints.families import Converted
from edgedet.export.checkpoints.families.tf_checkpoint import INDEX
from edgedet.export.checkpoints.registry import PRETRAINED, hash_prefix
from edgedet.export.checkpoints.training import Training
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.specs import SPECS, DetectorSpec, resized, spec_for

NAMED = 3  # how many offending tensors a message names
CLASS_BIAS, BOX_BIAS = "class_net.predict.conv_pw.bias", "box_net.predict.conv_pw.bias"
# code bases that train with AdvProp, too: [-1, 1] inputs, all tensors as their twins'
ADVPROP_FAMILIES = ("effdet", "automl")
_SIDE = re.compile(r"efficientdet_d\d_(\d{3,4})(?:_|\.|$)")  # as automl names models for 640x640
_PARTS = {"backbone": ("backbone.",), "BiFPN": ("fpn.",), "heads": ("class_net.", "box_net.")}


def is_official(sha256: str) -> bool:
    """Return whether a file is one of effdet's official weight files, of whose training all is known."""
    return any(hash_prefix(file) == sha256[: len(hash_prefix(file))] for file in PRETRAINED.values())


@dataclass(frozen=True)
class Hints:
    """Models that the file's hash, its training or its name points to, the likelier first.

    sure:    by an official file's hash, what the training wrote, or the file's name as it is in the family table.
    likely:  by a file's name that only lacks the table's ``tf_``, as zylo117 and automl name theirs.
    advprop: whether the name, or the folder, is AdvProp's.
    side:    input size in pixels that the name speaks of ("efficientdet-d2-640"), None for none.
    """

    sure: tuple[str, ...]
    likely: tuple[str, ...]
    advprop: bool = False
    side: int | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """All of these models, the surest first."""
        return self.sure + self.likely


def find_hints(path: Path, sha256: str, trained_as: str) -> Hints:
    """Return the models that a file's hash, its training (``arch``) and its name point to."""
    named_by = path.parent if path.suffix == INDEX else path  # TensorFlow's files are all called "model"
    stem = named_by.name.lower().replace("-", "_")

    def named(prefix: str) -> list[str]:
        names = [name for name in SPECS if re.match(rf"{name.removeprefix(prefix)}(_|\.|$)", stem)]
        return sorted(names, key=len, reverse=True)

    official = [name for name, file in PRETRAINED.items() if hash_prefix(file) == sha256[: len(hash_prefix(file))]]
    sure = tuple(official + [name for name in SPECS if name == trained_as] + named(""))
    side = _SIDE.match(stem)
    advprop = named_by.parent.name == "advprop" or "advprop" in stem
    return Hints(sure, tuple(named("tf_")), advprop, int(side[1]) if side else None)


def find_spec(
    state: dict[str, Tensor],
    converted: Converted,
    variant: str | None,
    exact: bool,
    hints: Hints,
    training: Training,
    path: Path,
) -> tuple[DetectorSpec, tuple[str, ...]]:
    """Return the spec that these tensors and the training fit, and one line on a choice that they leave open.

    Arguments as of ``load_checkpoint``; hints from ``find_hints``. Raises CheckpointError where no row fits, where
    several do and nothing decides, and where tensors are missing, too many, misshapen or not finite.
    """
    table = _Table(state, converted, training, path)
    fitting = [name for name in converted.models if table.fits(name)]
    if table.family in ADVPROP_FAMILIES:
        fitting += [f"{name}_ap" for name in fitting if f"{name}_ap" in SPECS]
    if variant is None:
        candidates = fitting
    elif exact:
        candidates = [variant] if variant in fitting or table.fits(variant) else []
    else:
        candidates = [name for name in fitting if _size_of(name) == _size_of(variant)]
    if variant is not None and not candidates:
        instead = f"these weights fit {' or '.join(fitting)}" if fitting else "the weights fit no model of the family"
        raise CheckpointError(
            f"{path} does not hold {variant}: {describe_differences(state, table.spec(variant))}; {instead}."
        )
    if not fitting and not candidates:
        raise CheckpointError(f"{path} {table.why_none(hints)}")
    scale = converted.spec_changes.get("anchor_scale")  # a bench's anchors tell D7 from D6
    if scale is not None and variant is None:
        candidates = [name for name in candidates if SPECS[name].anchor_scale == scale] or candidates
    chosen = next((name for name in hints.models if name in candidates), None)
    if hints.advprop and f"{chosen}_ap" in candidates:
        chosen = f"{chosen}_ap"
    if chosen is None and variant is not None:
        chosen = variant if variant in candidates else candidates[0]
    if chosen is None and len(candidates) == 1:
        chosen = candidates[0]
    if chosen is None:
        check_tensors(state, table.spec(candidates[0]), path)  # damage goes before doubt
        raise AmbiguousCheckpoint(
            f"{path} may be {' or '.join(candidates)}: they share all tensors but not anchors, size, padding or "
            "normalisation. Say which with --variant NAME.",
            candidates,
        )
    spec = table.spec(chosen)
    check_tensors(state, spec, path)
    notes = () if exact and variant else _open_choice(chosen, candidates, hints, table.family)
    if table.family == "automl" and hints.side is not None and training.input_hw is None:
        spec = resized(spec, (hints.side, hints.side))
        notes += (f"the input size is {hints.side}x{hints.side}, as the file's name says: give --size HxW for another",)
    return spec, notes


def _open_choice(chosen: str, candidates: list[str], hints: Hints, family: str) -> tuple[str, ...]:
    """Say which other models the tensors fit, where nothing sure decided."""
    if family == "automl" and f"{chosen}_ap" in candidates:
        return (
            f"the file is taken for {chosen}, but automl publishes its AdvProp weights under the same names, and no "
            f"tensor tells them apart: give --variant {chosen}_ap if this is one",
        )
    others = [name for name in candidates if name != chosen]
    if family != "effdet" or chosen in hints.sure or not others:
        return ()
    return (
        f"the file is taken for {chosen}, but its tensors fit {' or '.join(others)} as well: give --variant NAME if "
        "it is another",
    )


class _Table:
    """The family table's rows as one checkpoint's code base and training change them."""

    def __init__(self, state: dict[str, Tensor], converted: Converted, training: Training, path: Path) -> None:
        self.family = converted.spec_changes.get("family", "effdet")
        self._state, self._models = state, converted.models
        self._changes = {**converted.spec_changes, **training.spec_changes}
        self._told = set(training.spec_changes)
        per_cell = _values(state, BOX_BIAS, 4, path) if BOX_BIAS in state else 0
        expected = self.spec(self._models[0]).anchors_per_cell
        if BOX_BIAS in state and per_cell != expected:
            raise CheckpointError(
                f"{path} has {per_cell} anchors a cell, where {'the training told' if self._told else 'models have'} "
                f"{expected}: give --anchor-scales and --anchor-ratios as it was trained, or --project FILE.yml."
            )
        self._changes["num_classes"] = _values(state, CLASS_BIAS, expected, path)

    def spec(self, name: str) -> DetectorSpec:
        """Return a row as this checkpoint was trained."""
        changes = dict(self._changes)
        if name.endswith("_ap"):  # normalised otherwise; automl pads with 0 behind that: grey
            for key in {"mean_rgb", "std_rgb", "fill_rgb"} - self._told:
                changes.pop(key, None)
            if self.family == "automl":
                changes.setdefault("fill_rgb", (128, 128, 128))
        return replace(spec_for(name), **changes)

    def fits(self, name: str) -> bool:
        """Whether the structure is the row's, judged by the tensors that differ between variants."""
        spec = self.spec(name)
        counts = [
            len({key[len(prefix) :].split(".")[0] for key in self._state if key.startswith(prefix)})
            for prefix in ("fpn.cell.", "class_net.conv_rep.", "class_net.bn_rep.0.")
        ]
        if counts != [spec.bifpn_repeats, spec.head_repeats, spec.num_levels]:
            return False
        shapes = _shapes(spec)
        return _mismatches(self._state, shapes) <= len(shapes) // 20  # a few damaged ones are named later

    def why_none(self, hints: Hints) -> str:
        """Say which part fits no row, and how the nearest row differs."""
        rows = {name: self.spec(name) for name in self._models}
        wrong = []
        for part, prefixes in _PARTS.items():
            ours = {key: value for key, value in self._state.items() if key.startswith(prefixes)}
            shapes = [{k: v for k, v in _shapes(spec).items() if k.startswith(prefixes)} for spec in rows.values()]
            if min(_mismatches(ours, row) / len(row) for row in shapes) > 1 / 20:
                wrong.append(part)
        nearest = next((name for name in hints.models if name in rows), None) or min(
            rows, key=lambda name: _mismatches(self._state, _shapes(rows[name]))
        )
        named = (
            f"its {' and '.join(wrong)} {'is' if len(wrong) == 1 and wrong != ['heads'] else 'are'} of another design"
        )
        gap = describe_differences(self._state, rows[nearest])
        return (
            f"fits no EfficientDet of the family (backbones B0-B7 and Lite0-4, BiFPN of the table's width)"
            f"{': ' + named if wrong else ''}; nearest is {nearest}, but {gap}."
        )


def _size_of(model: str) -> str:
    """Return the size in a model's name: "d0" for "tf_efficientdet_d0_ap"."""
    return model.removesuffix("_ap").rpartition("_")[2]


def _values(state: dict[str, Tensor], name: str, unit: int, path: Path) -> int:
    """Return how many times ``unit`` values a prediction's bias holds."""
    bias = state.get(name)
    if bias is None or bias.ndim != 1 or len(bias) == 0 or len(bias) % unit:
        raise CheckpointError(
            f"{path} is no EfficientDet in effdet's layout: {name} should hold a multiple of "
            f"{unit} values, got {'nothing' if bias is None else tuple(bias.shape)}."
        )
    return len(bias) // unit


@cache
def _shapes(spec: DetectorSpec) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = EfficientDet(spec)
    return {
        key: tuple(value.shape)
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def _mismatches(state: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> int:
    """Return how many tensors are missing, too many or of another shape."""
    common = set(shapes) & set(state)
    return sum(tuple(state[key].shape) != shapes[key] for key in common) + len(set(shapes) ^ set(state))


def describe_differences(state: dict[str, Tensor], spec: DetectorSpec) -> str:
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
    for kind, keys in (("missing", missing), ("unknown", extra), ("of another shape", reshaped)):
        if keys:
            more = f", and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
            parts.append(f"{len(keys)} tensors are {kind} ({'; '.join(keys[:NAMED])}{more})")
    return ", ".join(parts)


def check_tensors(state: dict[str, Tensor], spec: DetectorSpec, path: Path) -> None:
    """Raise CheckpointError, naming the first tensors, where the state is not the spec's or not finite."""
    problems = describe_differences(state, spec)
    if problems:
        raise CheckpointError(f"{path} is not a whole {spec.name}: {problems}.")
    other = [f"{key} ({str(value.dtype)[6:]})" for key, value in state.items() if not value.is_floating_point()]
    if other:
        raise CheckpointError(f"{path} holds {other[0]}, but weights are floating-point numbers: save them so.")
    negative = [key for key, value in state.items() if key.endswith("running_var") and bool((value < 0).any())]
    if negative:
        raise CheckpointError(
            f"{path} holds negative variances in {negative[0]}: no training gives these, so it is damaged."
        )
    bad = [key for key, value in state.items() if not bool(torch.isfinite(value.float()).all())]
    if bad:
        more = f", and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise CheckpointError(
            f"{path} holds NaN or infinite numbers in {'; '.join(bad[:NAMED])}{more}: train it again."
        )
