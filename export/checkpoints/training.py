"""Settings of a training that its checkpoint does not hold: by options, by a project's YAML file, or by default.

Project files are zylo117's projects/NAME.yml and automl's hparams YAML (its hparams_config.py names the keys). No text
of a file is evaluated as code: zylo117's '[2 ** 0, ...]' is read as numbers and the four operators on them.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgedet.errors import CheckpointError, require
from edgedet.specs import MIN_SIDE, THIRD_OCTAVES, DetectorSpec

MAX_BYTES = 1 << 20  # of a project file; COCO's has 2 KB
MAX_FACTORS = 16  # anchor sizes or ratios a cell; the family has 3 of each
MAX_PIXELS = 1 << 26  # of a model's input
LARGEST = 1e6  # of a number in such a file, so that 9 ** 9 ** 9 ends early
OCTAVE_TOLERANCE = 1e-9  # two ways to compute 2 ** (1 / 3)

Ratios = tuple[tuple[float, float], ...]
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
# automl's settings that change the network and of which there is one kind only here
_ONLY = {
    "conv_bn_act_pattern": (False,),
    "conv_after_downsample": (False, True),
    "apply_bn_for_resampling": (True,),
    "separable_conv": (True,),
    "min_level": (3,),
    "data_format": ("channels_last", "channels_first"),
    "fpn_name": (None, "bifpn", "bifpn_fa", "bifpn_sum", "bifpn_dyn"),
}
_FUSIONS = {"fastattn", "attn", "sum"}
_ACTIVATIONS = {"swish": "swish", "swish_native": "swish", "silu": "swish", "relu6": "relu6"}


@dataclass(frozen=True)
class Training:
    """What the user tells of a training; None where nothing was told.

    aspect_ratios: (w, h) factors of the anchors, in the training's order.
    anchor_scales: factors on ``anchor_scale``, one a size of anchor.
    mean_rgb/std_rgb: of pixels in [0, 1].
    class_names:   one a class, in order.
    The others are as in DetectorSpec.
    """

    aspect_ratios: Ratios | None = None
    anchor_scales: tuple[float, ...] | None = None
    anchor_scale: float | None = None
    fusion: str | None = None
    pool_first: bool | None = None
    activation: str | None = None
    mean_rgb: tuple[float, float, float] | None = None
    std_rgb: tuple[float, float, float] | None = None
    input_hw: tuple[int, int] | None = None
    class_names: tuple[str, ...] | None = None

    @property
    def spec_changes(self) -> dict[str, Any]:
        """What was told, for ``dataclasses.replace`` on a DetectorSpec; the fill follows the mean."""
        changes = {
            field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name) is not None
        }
        changes.pop("class_names", None)
        if self.mean_rgb is not None:
            changes["fill_rgb"] = tuple(round(255 * value) for value in self.mean_rgb)
        return changes


UNTOLD = Training()


def read_training(ratios: str | None, scales: str | None, project: Path | None) -> Training:
    """Return what ``--anchor-ratios W:H,...``, ``--anchor-scales A,B,...`` and ``--project FILE`` tell.

    Raises CheckpointError in one line for what cannot be read, and where options and file are given for the same.
    """
    settings = UNTOLD if project is None else read_project(project)
    values = dict(vars(settings))
    for option, text, name, parse in (
        ("--anchor-ratios", ratios, "aspect_ratios", _parse_ratios),
        ("--anchor-scales", scales, "anchor_scales", _parse_scales),
    ):
        if text is not None:
            if values[name] is not None:
                raise CheckpointError(f"{option} and {project} say the same thing: leave one of them out.")
            values[name] = parse(text)
    return Training(**values)


def _parse_ratios(text: str) -> Ratios:
    pairs = []
    for part in text.split(","):
        sides = part.split(":")
        try:
            pairs.append((float(sides[0]), float(sides[1])))
        except (ValueError, IndexError):
            sides = []
        if len(sides) != 2:
            raise CheckpointError(f"--anchor-ratios takes W:H,W:H,..., for example 1:1,1.4:0.7,0.7:1.4; got {text!r}.")
    return _checked_ratios(pairs, "--anchor-ratios")


def _parse_scales(text: str) -> tuple[float, ...]:
    try:
        return _checked_factors([float(part) for part in text.split(",")], "--anchor-scales")
    except ValueError:
        raise CheckpointError(f"--anchor-scales takes A,B,..., for example 1,1.26,1.587; got {text!r}.") from None


def read_project(path: Path) -> Training:
    """Return what a project file tells; raises CheckpointError in one line."""
    yaml = require("yaml", "reading a project file")
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path} is no project file: wanted zylo117's .yml or automl's hparams .yaml.")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"cannot read {path} as YAML ({reason}): mend it.") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is no project file: wanted zylo117's .yml or automl's hparams .yaml.")
    try:
        return _from_zylo117(values, str(path)) if "anchors_ratios" in values else _from_automl(values, str(path))
    except (TypeError, ValueError, ArithmeticError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} has a setting that cannot be understood ({error}): mend it.") from None


def _from_zylo117(values: dict[str, Any], where: str) -> Training:
    names = values.get("obj_list")
    if not isinstance(names, (list, type(None))):
        raise CheckpointError(f"{where} says obj_list: {str(names)[:60]}; wanted a list of names.")
    return Training(
        aspect_ratios=_checked_ratios(_numbers(values["anchors_ratios"], where), where),
        anchor_scales=_checked_factors(_numbers(values["anchors_scales"], where), where)
        if "anchors_scales" in values
        else None,
        mean_rgb=_levels(values, "mean", 1.0, where),
        std_rgb=_levels(values, "std", 1.0, where),
        class_names=tuple(str(name) or f"unused_{slot}" for slot, name in enumerate(names, 1)) if names else None,
    )


def _from_automl(values: dict[str, Any], where: str) -> Training:
    for key, known in _ONLY.items():
        if key in values and values[key] not in known:
            raise CheckpointError(f"{where} says {key}: {values[key]}, a network that edgedet does not build.")
    for key, known_words in (("fpn_weight_method", _FUSIONS), ("act_type", set(_ACTIVATIONS))):
        if values.get(key) is not None and values[key] not in known_words:
            raise CheckpointError(
                f"{where} says {key}: {values[key]}; edgedet builds {', '.join(sorted(known_words))} only."
            )
    if isinstance(values.get("anchor_scale"), list):
        raise CheckpointError(f"{where} has an anchor_scale for each level; edgedet knows one for all levels only.")
    ratios, count, scale = (values.get(key) for key in ("aspect_ratios", "num_scales", "anchor_scale"))
    if count is not None and not (isinstance(count, int) and 1 <= count <= MAX_FACTORS):
        raise CheckpointError(f"{where} says num_scales: {count}; wanted a number from 1 to {MAX_FACTORS}.")
    if scale is not None and not 0 < float(scale) <= LARGEST:
        raise CheckpointError(f"{where} says anchor_scale: {scale}; wanted a number above 0.")
    label_map = values.get("label_map")
    return Training(
        aspect_ratios=None if ratios is None else _checked_ratios([_pair(_number(r, where)) for r in ratios], where),
        anchor_scales=None if count is None else tuple(2 ** (part / count) for part in range(count)),
        anchor_scale=None if scale is None else float(scale),
        fusion=values.get("fpn_weight_method"),
        pool_first=values.get("conv_after_downsample"),
        activation=_ACTIVATIONS[values["act_type"]] if values.get("act_type") else None,
        mean_rgb=_levels(values, "mean_rgb", 255.0, where),
        std_rgb=_levels(values, "stddev_rgb", 255.0, where),
        input_hw=_size(values["image_size"], where) if values.get("image_size") is not None else None,
        class_names=tuple(str(label_map[slot]) for slot in range(1, max(label_map) + 1))
        if isinstance(label_map, dict)
        else None,
    )


def _pair(ratio: Any) -> Any:
    """Return (w, h) factors of a ratio as automl writes it: width / height as one number, or both factors."""
    return ratio if isinstance(ratio, list) else [math.sqrt(ratio), 1 / math.sqrt(ratio)]


def _levels(values: dict[str, Any], key: str, unit: float, where: str) -> tuple[float, float, float] | None:
    """Return a mean or deviation of pixels in [0, 1], which the file gives in a ``unit``; None where it gives none."""
    given = values.get(key)
    if given is None:
        return None
    red, green, blue = (float(value) / unit for value in (given if isinstance(given, list) else [given] * 3))
    for value in (red, green, blue):
        if not (0 < value <= 1 or (value == 0 and key.startswith("mean"))):
            raise CheckpointError(f"{where} says {key}: {given}; wanted shares of white, which is {unit:g} there.")
    return red, green, blue


def _size(value: Any, where: str) -> tuple[int, int]:
    """Return (height, width) of automl's image_size: one side, or "WIDTHxHEIGHT"."""
    width, height = (value, value) if isinstance(value, int) else (int(part) for part in str(value).lower().split("x"))
    if min(width, height) < MIN_SIDE or width * height > MAX_PIXELS:
        raise CheckpointError(f"{where} says image_size: {value}; wanted from {MIN_SIDE} pixels a side on.")
    return height, width


def _numbers(value: Any, where: str) -> Any:
    """Return the numbers of zylo117's text, which its own code passes to eval."""
    if not isinstance(value, str):
        return _number(value, where)
    try:
        return _number_of(ast.parse(value, mode="eval").body)
    except (SyntaxError, ArithmeticError, RecursionError, MemoryError, ValueError):
        raise CheckpointError(f"{where}: {value[:60]!r} is no list of numbers: mend it.") from None


def _number_of(node: ast.expr) -> Any:
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_number_of(item) for item in node.elts]
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and abs(node.value) <= LARGEST:
        return float(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        value = _OPERATORS[type(node.op)](_number_of(node.left), _number_of(node.right))
        if isinstance(value, float) and abs(value) <= LARGEST:
            return value
    raise ValueError("not a number")


def _number(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return [_number(item, where) for item in value]
    return float(value)


def _checked_ratios(pairs: Any, where: str) -> Ratios:
    if not isinstance(pairs, list) or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs):
        raise CheckpointError(f"{where}: anchor ratios are pairs of width and height; got {pairs!r}.")
    _checked_factors([side for pair in pairs for side in pair], where, 2 * MAX_FACTORS)
    return tuple((w, h) for w, h in pairs)


def _checked_factors(values: Any, where: str, most: int = MAX_FACTORS) -> tuple[float, ...]:
    plain = isinstance(values, list) and all(isinstance(value, float) for value in values)
    if not plain or not 1 <= len(values) <= most or not all(0 < value <= LARGEST for value in values):
        raise CheckpointError(f"{where}: anchors take 1 to {MAX_FACTORS} factors above 0; got {values!r}.")
    if len(values) == len(THIRD_OCTAVES) and all(
        math.isclose(a, b, rel_tol=OCTAVE_TOLERANCE) for a, b in zip(values, THIRD_OCTAVES, strict=True)
    ):
        return THIRD_OCTAVES
    return tuple(values)


def describe_assumptions(spec: DetectorSpec, training: Training, anchors_known: bool) -> str:
    """Return one line on what was assumed of a training because no one told it; "" where nothing was."""
    parts = []
    if not anchors_known and training.aspect_ratios is None:
        parts.append(f"anchor ratios (w:h) {' '.join(f'{w:.4g}:{h:.4g}' for w, h in spec.aspect_ratios)}")
    if not anchors_known and training.anchor_scales is None:
        parts.append(f"anchor scales {' '.join(f'{scale:.4g}' for scale in spec.anchor_scales)}")
    if spec.family == "automl":
        if spec.fusion == "fastattn" and training.fusion is None:
            parts.append("fpn_weight_method fastattn")
        if training.pool_first is None:
            parts.append("no conv_after_downsample")
        if training.activation is None:
            parts.append(f"act_type {spec.activation}")
        if training.anchor_scale is None:
            parts.append(f"anchor_scale {spec.anchor_scale:g}")
    for name, told, levels_rgb in (("mean", training.mean_rgb, spec.mean_rgb), ("std", training.std_rgb, spec.std_rgb)):
        if told is None:
            parts.append(f"{name} {' '.join(f'{255 * value:.4g}' for value in levels_rgb)}")
    if not parts:
        return ""
    return (
        f"the file does not say how it was trained, so this is assumed: {', '.join(parts)}; give --project FILE.yml "
        "if it was trained otherwise"
    )
