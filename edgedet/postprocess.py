"""Turn raw network outputs into boxes: decode box codes, and apply the score threshold and NMS.

Decoding, candidate limit and hard NMS as rwightman effdet (anchors.py ``generate_detections``, bench.py
``_post_process``); soft NMS as effdet/soft_nms.py (Bodla et al., arXiv 1704.04503); what other code bases do otherwise
is in the table ORIGINALS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from .errors import InputError, ShapeError
from .types import Detections, RawOutputs, Scale

DEFAULT_SCORE = 0.4  # what `run` draws: sure enough for a viewer
MAX_CANDIDATES = 5000  # best (anchor, class) pairs that reach NMS; effdet max_detection_points
MAX_BOXES = 100  # a picture; effdet max_det_per_image, COCO's own limit
NMS_IOU = 0.5  # hard NMS drops what overlaps a better box of its class by more; effdet anchors.py, automl nms_configs
SOFT_NMS_SIGMA = 0.5  # gaussian; automl nms_configs.sigma, effdet soft_nms.py
SOFT_NMS_MIN_SCORE = 0.001  # decayed below this a box is gone; effdet anchors.py, automl tf2/postprocess.py
SMALLEST_SIDE = 1e-3  # pixels: a box of no size has no logarithm
_SCAN_BLOCK = 1 << 18  # logits compared at a time: the mask stays in the cache and costs no fresh pages


@dataclass(frozen=True)
class NmsRules:
    """How candidates become detections.

    candidates: "pairs": each class of an anchor whose score passes; "anchors": the best class of each anchor only.
    method:     "hard": what overlaps a better box of its class too much is dropped; "soft": its score decays;
                "none": the model's file has done it.
    max_iou:    overlap above which a box is dropped, for "hard".
    clip:       what boxes are cut to before NMS: "picture", "input" (the model's, to the last pixel's centre) or
                "nothing". Detections are always cut to the picture.
    """

    candidates: str = "pairs"
    method: str = "hard"
    max_iou: float = NMS_IOU
    clip: str = "picture"

    @property
    def words(self) -> str:
        """The kind of NMS, for people."""
        kind = {"hard": "hard", "soft": "soft (gaussian)", "none": "the file's own"}[self.method]
        return kind if self.candidates == "pairs" else f"{kind}, best class of each anchor"

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} is one of {', '.join(known)}; got {getattr(self, name)!r}.")
        if not 0.0 < self.max_iou <= 1.0:
            raise InputError(f"max_iou lies between 0 and 1; got {self.max_iou!r}.")


_CHOICES = {
    "candidates": ("pairs", "anchors"),
    "method": ("hard", "soft", "none"),
    "clip": ("picture", "input", "nothing"),
}
DEFAULT_RULES = NmsRules()  # effdet's; why they hold for all families: docs/decisions/0016-nms.md
SOFT_RULES = NmsRules(method="soft")  # effdet's with soft_nms=True
# family -> what its own evaluation does
ORIGINALS: Dict[str, NmsRules] = {
    "effdet": DEFAULT_RULES,
    # efficientdet/utils.py ClipBoxes, utils/utils.py postprocess, coco_eval.py nms_threshold
    "zylo117": NmsRules("anchors", "hard", 0.5, "input"),
    # tf2/postprocess.py per_class_nms: TensorFlow's NonMaxSuppressionV5, whose iou_threshold has no part in soft NMS
    "automl": NmsRules("anchors", "soft", clip="nothing"),
}


def rules_from_dict(values: Optional[Dict[str, Any]]) -> NmsRules:
    """Rebuild rules from JSON; None gives the default. Raises InputError for what no edgedet writes."""
    try:
        return DEFAULT_RULES if values is None else NmsRules(**values)
    except TypeError as error:
        raise InputError(f"these are no rules of post-processing: {error}.") from None


def postprocess(
    raw: RawOutputs,
    anchors_yxyx: np.ndarray,
    scale_to_source: Scale,
    source_hw: Tuple[int, int],
    score: float = DEFAULT_SCORE,
    rules: NmsRules = DEFAULT_RULES,
    input_hw: Optional[Tuple[int, int]] = None,
) -> Detections:
    """Return the detections, best score first, at most MAX_BOXES, in pixels of the source.

    raw:             one picture's outputs; anchors_yxyx (A, 4) from ``anchors_for``: all of them, in the same order.
    scale_to_source: model pixels times this are source pixels.
    source_hw:       (height, width) of the source in pixels, to which boxes are clipped; by the default rules before
                     NMS, so a box wholly outside keeps zero area, as in effdet.
    score:           in (0, 1); boxes below it are dropped, also where soft NMS has decayed them.
    input_hw:        (height, width) of the model's input, for rules that clip to it.
    Raises ShapeError where outputs and anchors do not belong together, InputError for a score out of range.
    """
    if raw.anchor_ids is not None:
        anchors_yxyx = anchors_yxyx[raw.anchor_ids]
    if raw.box_codes.shape != anchors_yxyx.shape:
        raise ShapeError(f"the model gave {len(raw.box_codes)} boxes for {len(anchors_yxyx)} anchors.")
    # Only candidates are touched: the threshold is taken to the logits, not the sigmoid to every logit.
    anchor_ids, class_ids, logits = _best_above(raw, logit_of(score), best_class_only=rules.candidates == "anchors")
    boxes_xyxy = decode(raw.codes_at(anchor_ids), anchors_yxyx[anchor_ids])
    scores = _sigmoid(logits)
    whole = ~np.isnan(boxes_xyxy).any(axis=1)  # a half-precision overflow may leave NaN codes: that is no box
    if not whole.all():
        boxes_xyxy, scores, class_ids = boxes_xyxy[whole], scores[whole], class_ids[whole]
    scale_xyxy = np.tile(np.broadcast_to(np.asarray(scale_to_source, dtype=np.float32), 2), 2)
    limits_xyxy = np.array([source_hw[1], source_hw[0]] * 2, dtype=np.float32)
    if rules.clip == "picture":
        np.clip(boxes_xyxy, 0, limits_xyxy / scale_xyxy, out=boxes_xyxy)
    elif rules.clip == "input" and input_hw is not None:
        np.clip(boxes_xyxy, 0, np.array([input_hw[1] - 1, input_hw[0] - 1] * 2, np.float32), out=boxes_xyxy)

    if rules.method == "soft":
        keep, scores = _soft_nms(boxes_xyxy, scores, class_ids)
        lasting = scores >= score
        keep, scores = keep[lasting], scores[lasting]
    elif rules.method == "hard":
        keep = _hard_nms(boxes_xyxy, class_ids, rules.max_iou)
        scores = scores[keep]
    else:
        keep = np.arange(min(len(scores), MAX_BOXES))
        scores = scores[keep]
    boxes_xyxy = np.clip(boxes_xyxy[keep] * scale_xyxy, 0, limits_xyxy)
    return Detections(boxes_xyxy, scores, class_ids[keep])


def logit_of(score: float) -> float:
    """Return the logit whose sigmoid is ``score``; raises InputError outside (0, 1)."""
    if not 0.0 < score < 1.0:
        raise InputError(f"a score threshold lies between 0 and 1, both excluded; got {score}.")
    return math.log(score / (1.0 - score))


def decode(box_codes: np.ndarray, anchors_yxyx: np.ndarray) -> np.ndarray:
    """Return (n, 4) float32 x1 y1 x2 y2 from (n, 4) codes ty tx th tw and their anchors (n, 4) y1 x1 y2 x2."""
    lows_yx, highs_yx = anchors_yxyx[:, :2], anchors_yxyx[:, 2:]
    sides_yx = highs_yx - lows_yx
    centres_yx = box_codes[:, :2] * sides_yx + (lows_yx + highs_yx) / 2
    with np.errstate(over="ignore"):  # a huge code becomes an infinite box, and clipping deals with it
        halves_yx = np.exp(box_codes[:, 2:]) * sides_yx / 2
    return np.concatenate([(centres_yx - halves_yx)[:, ::-1], (centres_yx + halves_yx)[:, ::-1]], axis=1)


def encode(boxes_xyxy: np.ndarray, anchors_yxyx: np.ndarray) -> np.ndarray:
    """Return the (n, 4) float32 codes that ``decode`` turns into the boxes; sides below SMALLEST_SIDE become that."""
    lows_yx, highs_yx = boxes_xyxy[:, 1::-1], boxes_xyxy[:, :1:-1]
    anchor_lows_yx, anchor_highs_yx = anchors_yxyx[:, :2], anchors_yxyx[:, 2:]
    sides_yx = anchor_highs_yx - anchor_lows_yx
    shifts_yx = (lows_yx + highs_yx - anchor_lows_yx - anchor_highs_yx) / 2 / sides_yx
    growths_yx = np.log(np.maximum(highs_yx - lows_yx, SMALLEST_SIDE) / sides_yx)
    return np.concatenate([shifts_yx, growths_yx], axis=1).astype(np.float32)


def _best_above(raw: RawOutputs, threshold: float, best_class_only: bool) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (anchor ids, class ids, logits) above the threshold: at most MAX_CANDIDATES, best first, then by index."""
    num_classes = raw.class_logits.shape[1]
    flat_logits = raw.class_logits.reshape(-1)
    passing, first = [], 0
    for end, bound in raw.logit_bounds(threshold):
        for start in range(first * num_classes, end * num_classes, _SCAN_BLOCK):
            block = flat_logits[start : min(start + _SCAN_BLOCK, end * num_classes)]
            passing.append(np.flatnonzero(block > bound) + start)
        first = end
    indices = np.concatenate(passing)
    logits = raw.logits_at(*np.divmod(indices, num_classes))
    if best_class_only and num_classes > 1:
        indices, logits = _best_of_each_anchor(indices, logits, num_classes)
    if len(indices) > MAX_CANDIDATES:
        part = np.sort(np.argpartition(logits, len(indices) - MAX_CANDIDATES)[-MAX_CANDIDATES:])
        indices, logits = indices[part], logits[part]
    order = np.argsort(-logits, kind="stable")
    anchor_ids, class_ids = np.divmod(indices[order], num_classes)
    return anchor_ids, class_ids, logits[order]


def _best_of_each_anchor(indices: np.ndarray, logits: np.ndarray, num_classes: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return, of flat (anchor, class) indices in rising order, the one with the largest logit of each anchor."""
    by_anchor = np.lexsort((-logits, indices // num_classes))  # stable: of equal logits the first class
    anchors = indices[by_anchor] // num_classes
    first = np.ones(len(anchors), dtype=bool)
    first[1:] = anchors[1:] != anchors[:-1]
    best = by_anchor[first]
    return indices[best], logits[best]


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return (1.0 / (1.0 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def _hard_nms(boxes_xyxy: np.ndarray, class_ids: np.ndarray, max_iou: float) -> np.ndarray:
    """Return the indices of the boxes that stay, at most MAX_BOXES; boxes come best first.

    All classes in one pass, so that the loop ends with the last box that counts.
    """
    overlap = _Overlap(boxes_xyxy)
    alive = np.ones(len(boxes_xyxy), dtype=bool)
    keep: List[int] = []
    best = 0
    while len(keep) < MAX_BOXES and best < len(alive):
        if alive[best]:
            keep.append(best)
            inter, union = overlap.of(best, first=best + 1)
            # inter / union > IoU without the division: exact for 0.5, and two empty boxes give no 0 / 0
            alive[best + 1 :] &= ~((inter > max_iou * union) & (class_ids[best + 1 :] == class_ids[best]))
        best += 1
    return np.array(keep, dtype=np.int64)


def _soft_nms(boxes_xyxy: np.ndarray, scores: np.ndarray, class_ids: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return (indices, decayed scores) of the best MAX_BOXES boxes, best first: overlap lowers a score, gaussian."""
    overlap = _Overlap(boxes_xyxy)
    scores = scores.copy()
    keep: List[int] = []
    kept_scores: List[float] = []
    while len(keep) < MAX_BOXES and len(scores):
        best = int(np.argmax(scores))
        if scores[best] <= SOFT_NMS_MIN_SCORE:
            break
        keep.append(best)
        kept_scores.append(scores[best])
        inter, union = overlap.of(best)
        touching = np.flatnonzero((inter > 0) & (class_ids == class_ids[best]))
        iou = inter[touching] / union[touching]
        scores[touching] *= np.exp(-(iou**2) / np.float32(SOFT_NMS_SIGMA))
        scores[best] = 0.0
    return np.array(keep, dtype=np.int64), np.array(kept_scores, dtype=np.float32)


class _Overlap:
    """Intersections and unions of boxes (n, 4) x1 y1 x2 y2, laid out so that one box against many costs few passes."""

    def __init__(self, boxes_xyxy: np.ndarray) -> None:
        self._lows, self._highs = np.ascontiguousarray(boxes_xyxy.T).reshape(2, 2, -1)
        width, height = self._highs - self._lows
        self._areas = width * height

    def of(self, index: int, first: int = 0) -> Tuple[np.ndarray, np.ndarray]:
        """Return the areas (intersection, union) of box ``index`` with each box from ``first`` on."""
        lows = np.maximum(self._lows[:, index, None], self._lows[:, first:])
        sides = np.minimum(self._highs[:, index, None], self._highs[:, first:])
        sides -= lows
        np.maximum(sides, 0, out=sides)
        inter = sides[0] * sides[1]
        return inter, self._areas[index] + self._areas[first:] - inter
