"""Turn raw network outputs into boxes. Knows anchors and NMS; knows no engine and no camera.

Decoding, clipping, candidate limit and hard NMS as rwightman effdet (anchors.py ``generate_detections``, bench.py
``_post_process``); soft NMS as google/automl and effdet/soft_nms.py (Bodla et al., arXiv 1704.04503).
"""

from __future__ import annotations

import math
from typing import List, Tuple

import numpy as np

from .errors import InputError, ShapeError
from .types import Detections, RawOutputs

DEFAULT_SCORE = 0.4  # what `run` draws: sure enough for a viewer
MAX_CANDIDATES = 5000  # best (anchor, class) pairs that reach NMS; effdet max_detection_points
MAX_BOXES = 100  # a picture; effdet max_det_per_image, COCO's own limit
NMS_IOU = 0.5  # hard NMS drops what overlaps a better box of its class by more; effdet anchors.py, automl nms_configs
SOFT_NMS_SIGMA = 0.5  # gaussian; automl nms_configs.sigma, effdet soft_nms.py
SOFT_NMS_MIN_SCORE = 0.001  # decayed below this a box is gone; effdet anchors.py
SMALLEST_SIDE = 1e-3  # pixels: a box of no size has no logarithm
_SCAN_BLOCK = 1 << 18  # logits compared at a time: the mask stays in the cache and costs no fresh pages


def postprocess(
    raw: RawOutputs,
    anchors_yxyx: np.ndarray,
    scale_to_source: float,
    source_hw: Tuple[int, int],
    score: float = DEFAULT_SCORE,
    soft_nms: bool = False,
) -> Detections:
    """Return what the network found, best score first, at most MAX_BOXES, in pixels of the source.

    raw:             one picture's outputs; anchors_yxyx (A, 4) from ``anchors_for`` in the same order.
    scale_to_source: model pixels times this are source pixels.
    source_hw:       (height, width) of the source in pixels; boxes are clipped to it before NMS, so a box wholly
                     outside keeps zero area, as in effdet.
    score:           in (0, 1); boxes below it are dropped, also where soft NMS has decayed them.
    Raises ShapeError where outputs and anchors do not belong together, InputError for a score out of range.
    """
    if raw.box_codes.shape != anchors_yxyx.shape:
        raise ShapeError(f"the model gave {len(raw.box_codes)} boxes for {len(anchors_yxyx)} anchors.")
    # Only candidates are touched: the threshold is taken to the logits, not the sigmoid to every logit.
    anchor_ids, class_ids, logits = _best_above(raw, logit_of(score))
    boxes_xyxy = decode(raw.codes_at(anchor_ids), anchors_yxyx[anchor_ids])
    scores = _sigmoid(logits)
    whole = ~np.isnan(boxes_xyxy).any(axis=1)  # a half-precision overflow may leave NaN codes: that is no box
    if not whole.all():
        boxes_xyxy, scores, class_ids = boxes_xyxy[whole], scores[whole], class_ids[whole]
    limits_xyxy = np.array([source_hw[1], source_hw[0]] * 2, dtype=np.float32)
    np.clip(boxes_xyxy, 0, limits_xyxy / np.float32(scale_to_source), out=boxes_xyxy)

    if soft_nms:
        keep, scores = _soft_nms(boxes_xyxy, scores, class_ids)
        lasting = scores >= score
        keep, scores = keep[lasting], scores[lasting]
    else:
        keep = _hard_nms(boxes_xyxy, class_ids)
        scores = scores[keep]
    boxes_xyxy = np.clip(boxes_xyxy[keep] * np.float32(scale_to_source), 0, limits_xyxy)
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


def _best_above(raw: RawOutputs, threshold: float) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (anchor ids, class ids, logits) above the threshold: MAX_CANDIDATES, best first, ties by index."""
    num_classes = raw.class_logits.shape[1]
    flat_logits = raw.class_logits.reshape(-1)
    found, first = [], 0
    for end, bound in raw.logit_bounds(threshold):
        for start in range(first * num_classes, end * num_classes, _SCAN_BLOCK):
            block = flat_logits[start : min(start + _SCAN_BLOCK, end * num_classes)]
            found.append(np.flatnonzero(block > bound) + start)
        first = end
    indices = np.concatenate(found)
    logits = raw.logits_at(*np.divmod(indices, num_classes))
    if len(indices) > MAX_CANDIDATES:
        part = np.sort(np.argpartition(logits, len(indices) - MAX_CANDIDATES)[-MAX_CANDIDATES:])
        indices, logits = indices[part], logits[part]
    order = np.argsort(-logits, kind="stable")
    anchor_ids, class_ids = np.divmod(indices[order], num_classes)
    return anchor_ids, class_ids, logits[order]


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return (1.0 / (1.0 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def _hard_nms(boxes_xyxy: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
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
            alive[best + 1 :] &= ~((inter > NMS_IOU * union) & (class_ids[best + 1 :] == class_ids[best]))
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

    def of(self, one: int, first: int = 0) -> Tuple[np.ndarray, np.ndarray]:
        """Return the areas (intersection, union) of box ``one`` with each box from ``first`` on."""
        lows = np.maximum(self._lows[:, one, None], self._lows[:, first:])
        sides = np.minimum(self._highs[:, one, None], self._highs[:, first:])
        sides -= lows
        np.maximum(sides, 0, out=sides)
        inter = sides[0] * sides[1]
        return inter, self._areas[one] + self._areas[first:] - inter
