"""Model files that give boxes instead of raw outputs: their boxes are encoded as raw outputs again.

One anchor holds one box, so that everything after the engine is the same for all files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Set

import numpy as np

from ..artifact import ArtifactMeta
from ..errors import ArtifactError
from ..postprocess import NmsRules, encode
from ..types import RawOutputs

OUTPUTS = ("boxes", "classes", "scores", "count")
RULES = NmsRules(method="none", clip="nothing")  # the file has applied NMS; a second NMS would drop boxes
SUREST = 1.0 - 1e-6  # score 1 has no finite logit
_NO_LOGIT = -20.0
_said: Set[str] = set()


def say_assumed(path: Path, text: str) -> None:
    """Print, once in a process, what is taken for granted about another maker's file."""
    if str(path) not in _said:
        _said.add(str(path))
        print(f"edgedet: {path} is read as {text}.", file=sys.stderr)


def gives_boxes(meta: ArtifactMeta) -> bool:
    """Return whether a file's graph ends in boxes."""
    return meta.nms.method == "none"


def raw_from_boxes(
    boxes_xyxy: np.ndarray, scores: np.ndarray, class_ids: np.ndarray, anchors_yxyx: np.ndarray, num_classes: int
) -> RawOutputs:
    """Return raw outputs that decode to the boxes (n, 4), in pixels of the model's input.

    scores: (n,) in [0, 1]; class_ids: (n,) integers. Raises ArtifactError for a class that the model does not have.
    """
    n = len(scores)
    if n and not 0 <= class_ids.min() <= class_ids.max() < num_classes:
        wrong = class_ids.min() if class_ids.min() < 0 else class_ids.max()
        raise ArtifactError(
            f"the model detected class {wrong}, but its metadata names {num_classes} classes: export it again."
        )
    logits = np.full((len(anchors_yxyx), num_classes), _NO_LOGIT, np.float32)
    codes = np.zeros((len(anchors_yxyx), 4), np.float32)
    sure = np.clip(scores.astype(np.float64), 1.0 - SUREST, SUREST)
    logits[np.arange(n), class_ids] = np.log(sure / (1.0 - sure))
    codes[:n] = encode(boxes_xyxy, anchors_yxyx[:n])
    return RawOutputs(logits, codes)
