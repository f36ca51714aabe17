"""Weights of rwightman/efficientdet-pytorch (effdet), brought to its own ``tf_efficientdet_*`` layout.

Read from effdet/efficientdet.py, anchors.py and config/model_config.py, and run against them (docs/checkpoints.md):
- ``tf_efficientdet_*`` is the canonical layout;
- ``efficientdet_d0`` .. ``d5`` and ``efficientdet_lite0`` pad symmetrically in the backbone and keep timm's BatchNorm
  epsilon 1e-5 there; ``d0`` .. ``d3`` pad so everywhere;
- ``d0`` .. ``d3`` and ``lite0`` leave out the biases of convolutions before a BatchNorm. A ``tf_`` model trained with
  ``redundant_bias=False`` has the very same tensors; only its name tells it apart. ``d4`` and ``d5`` have the tensors
  of their ``tf_`` twins;
- ``head_bn_level_first`` turns the heads' lists of BatchNorms inside out;
- a training or prediction bench adds ``anchors.boxes``, which tell input size and anchors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families import EXACT_RATIOS, Converted
from edgedet.specs import ROUNDED_RATIOS, SPECS

STEM = "backbone.conv_stem.weight"
ANCHORS = "anchors.boxes"
SCALES = 3  # of the anchors at each ratio: 2^0, 2^(1/3), 2^(2/3); the same in every model of the family
RATIO_TOLERANCE = 1e-4  # float32 corners of a 32 pixel box are good to 1e-6

_WITHOUT_BIASES = ("efficientdet_d0", "efficientdet_d1", "efficientdet_d2", "efficientdet_d3", "efficientdet_lite0")
_FULL_HEAD = "class_net.predict.conv.weight"
_LEVEL_FIRST = re.compile(r"(class_net|box_net)\.bn_rep\.(\d+)\.(\d+)\.(\w+)")
# Convolutions whose bias a BatchNorm follows, so that it can be left out.
_BEFORE_NORM = re.compile(
    r"(fpn\..+\.conv\.conv|fpn\..+\.after_combine\.conv\.conv_pw|(?:class_net|box_net)\.conv_rep\.\d+\.conv_pw)\.weight"
)


def recognises(names: Iterable[str]) -> bool:
    """Return whether these are the names of an effdet model, of whatever backbone."""
    return STEM in names or {"fpn", "class_net", "box_net"} <= {name.split(".")[0] for name in names}


def canonical_from_effdet(state: Mapping[str, Any]) -> Converted:
    """Bring an effdet state dict (torch tensors) to the ``tf_`` layout.

    Raises CheckpointError where ``anchors.boxes`` are not anchors of this family, and for effdet's models of another
    design, such as ``resdet50`` or ``efficientdet_es``.
    """
    if _FULL_HEAD in state or (STEM not in state and "class_net.predict.conv_pw.weight" in state):
        part = "heads are full convolutions" if _FULL_HEAD in state else f"backbone has no {STEM}"
        raise CheckpointError(
            f"this is a model of effdet with another design: its {part}. edgedet builds backbones B0-B7 and Lite0-4 "
            "with separable heads only."
        )
    canonical = {_repeats_first(name): value for name, value in state.items() if name != ANCHORS}
    changes = spec_changes_from_anchors(state[ANCHORS]) if ANCHORS in state else {}
    before_norm = [match[1] for match in map(_BEFORE_NORM.fullmatch, canonical) if match]
    if any(f"{conv}.bias" in canonical for conv in before_norm):
        models = tuple(name for name in SPECS if name not in _WITHOUT_BIASES and not name.endswith("_ap"))
        return Converted(canonical, changes, models)
    for conv in before_norm:
        weight = canonical[f"{conv}.weight"]
        canonical[f"{conv}.bias"] = weight.new_zeros(weight.shape[0])
    note = (
        "no biases before BatchNorms: effdet's efficientdet_*, or a tf_ model without redundant_bias (--variant tf_...)"
    )
    return Converted(canonical, changes, _WITHOUT_BIASES, (note,))


def _repeats_first(name: str) -> str:
    """``bn_rep.<level>.<repeat>.<leaf>`` -> ``bn_rep.<repeat>.<level>.bn.<leaf>``; other names stay."""
    match = _LEVEL_FIRST.fullmatch(name)
    if match is None:
        return name
    head, level, repeat, leaf = match.groups()
    return f"{head}.bn_rep.{repeat}.{level}.bn.{leaf}"


def spec_changes_from_anchors(boxes_yxyx: Any) -> dict[str, Any]:
    """Read input size, anchor scale and ratios from effdet's anchors, (A, 4) y1 x1 y2 x2 in pixels, finest level first.

    Raises CheckpointError where the first cell does not hold SCALES sizes of three ratios.
    """
    boxes = np.asarray(boxes_yxyx, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) < SCALES * len(ROUNDED_RATIOS):
        raise CheckpointError(
            f"{ANCHORS} should be (A, 4) corners; got {boxes.shape}: save the model's own state dict."
        )
    centres_yx = (boxes[:, :2] + boxes[:, 2:]) / 2
    input_hw = tuple(int(side) for side in np.rint(centres_yx.min(0) + centres_yx.max(0)))  # half a stride off each end
    stride_hw = 2 * centres_yx[0]
    cell_hw = ((boxes[:, 2:] - boxes[:, :2]) / stride_hw)[: SCALES * len(ROUNDED_RATIOS)]
    by_scale = cell_hw.reshape(SCALES, len(ROUNDED_RATIOS), 2) / 2.0 ** (np.arange(SCALES) / SCALES)[:, None, None]
    if not np.allclose(by_scale, by_scale[0], rtol=RATIO_TOLERANCE):
        raise CheckpointError(
            f"{ANCHORS} holds anchors that are not {SCALES} sizes of {len(ROUNDED_RATIOS)} ratios a cell, as every "
            "EfficientDet has them: these weights cannot be used."
        )
    scale = round(float(by_scale[0, 0, 1]), 4)
    ratios_wh = by_scale[0, :, ::-1] / scale
    for known in (ROUNDED_RATIOS, EXACT_RATIOS):
        if np.allclose(ratios_wh, known, rtol=RATIO_TOLERANCE):
            return {"input_hw": input_hw, "anchor_scale": scale, "aspect_ratios": known}
    own = tuple((round(float(w), 5), round(float(h), 5)) for w, h in ratios_wh)
    return {"input_hw": input_hw, "anchor_scale": scale, "aspect_ratios": own}
