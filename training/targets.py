"""Turn labelled boxes into the training target of each anchor.

As google/automl's AnchorLabeler and effdet's (effdet/anchors.py): an anchor belongs to the box that it overlaps most,
from IoU 0.5 on; a box's best anchor belongs to it however little they overlap. Boxes are coded as in Faster R-CNN.
An anchor that lies by half in a box to ignore (COCO's crowd) is neither object nor background.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MATCH_IOU = 0.5
SMALLEST = 1e-8  # added to sides before logarithms, as effdet/object_detection/box_coder.py
BACKGROUND, IGNORED = -1, -2


@dataclass(frozen=True, eq=False)
class Targets:
    """The training targets of a batch's anchors.

    class_ids: (N, A) int64; BACKGROUND or IGNORED where no class.
    scores:    (N, A) float32, how sure the label is; 0 where no class.
    box_codes: (N, A, 4) float32 ty tx th tw; 0 where no class.
    positives: number of anchors with a class.
    """

    class_ids: Tensor
    scores: Tensor
    box_codes: Tensor
    positives: Tensor


def make_targets(anchors_yxyx: Tensor, labels: list[tuple[Tensor, Tensor, Tensor]]) -> Targets:
    """Return the targets of a batch.

    anchors_yxyx: (A, 4) pixels of the input.
    labels:       for each picture boxes_xyxy (n, 4) in pixels of the input, class ids (n,), -1 for boxes to ignore, and
                  scores (n,).
    """
    rows = [_make_targets_of_picture(anchors_yxyx, *label) for label in labels]
    class_ids, scores, codes = (torch.stack(part) for part in zip(*rows, strict=True))
    return Targets(class_ids, scores, codes, (class_ids >= 0).sum())


def _make_targets_of_picture(
    anchors_yxyx: Tensor, boxes_xyxy: Tensor, class_ids: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    of_anchor = torch.full((len(anchors_yxyx),), BACKGROUND, dtype=torch.int64, device=anchors_yxyx.device)
    sure = torch.zeros(len(anchors_yxyx), device=anchors_yxyx.device)
    codes = torch.zeros_like(anchors_yxyx)
    ignored = boxes_xyxy[class_ids < 0]
    if len(ignored):
        of_anchor[compute_shares(ignored[:, [1, 0, 3, 2]], anchors_yxyx).amax(0) >= MATCH_IOU] = IGNORED
    counts = class_ids >= 0
    boxes_yxyx, class_ids, scores = boxes_xyxy[counts][:, [1, 0, 3, 2]], class_ids[counts], scores[counts]
    if len(boxes_yxyx):
        overlap = compute_iou(boxes_yxyx, anchors_yxyx)
        best, box_of = overlap.max(0)
        matched = best >= MATCH_IOU
        first = torch.arange(len(boxes_yxyx) - 1, -1, -1, device=overlap.device)  # the first of two boxes wins
        forced = overlap.argmax(1)[first]
        box_of[forced], matched[forced] = first, True
        of_anchor[matched] = class_ids[box_of[matched]]
        sure[matched] = scores[box_of[matched]]
        codes[matched] = encode_boxes(boxes_yxyx[box_of[matched]], anchors_yxyx[matched])
    return of_anchor, sure, codes


def compute_iou(boxes_yxyx: Tensor, others_yxyx: Tensor) -> Tensor:
    """Return the (n, m) overlaps of boxes (n, 4) and (m, 4)."""
    shared = _compute_intersections(boxes_yxyx, others_yxyx)
    union = _compute_areas(boxes_yxyx)[:, None] + _compute_areas(others_yxyx)[None] - shared
    return torch.where(shared > 0, shared / union, torch.zeros_like(shared))


def compute_shares(crowds_yxyx: Tensor, anchors_yxyx: Tensor) -> Tensor:
    """Return the (n, m) shares of the anchors' areas that lie in each crowd: COCO's overlap with a crowd."""
    shared = _compute_intersections(crowds_yxyx, anchors_yxyx)
    return shared / _compute_areas(anchors_yxyx)[None]


def _compute_intersections(boxes_yxyx: Tensor, others_yxyx: Tensor) -> Tensor:
    lows = torch.maximum(boxes_yxyx[:, None, :2], others_yxyx[None, :, :2])
    highs = torch.minimum(boxes_yxyx[:, None, 2:], others_yxyx[None, :, 2:])
    return (highs - lows).clamp_min(0).prod(2)


def _compute_areas(boxes_yxyx: Tensor) -> Tensor:
    return (boxes_yxyx[:, 2:] - boxes_yxyx[:, :2]).prod(1)


def encode_boxes(boxes_yxyx: Tensor, anchors_yxyx: Tensor) -> Tensor:
    """Return (n, 4) codes ty tx th tw of boxes relative to their anchors; ``edgedet.postprocess.decode`` undoes it."""
    sides, anchor_sides = (yxyx[:, 2:] - yxyx[:, :2] + SMALLEST for yxyx in (boxes_yxyx, anchors_yxyx))
    centres, anchor_centres = ((yxyx[:, :2] + yxyx[:, 2:]) / 2 for yxyx in (boxes_yxyx, anchors_yxyx))
    return torch.cat([(centres - anchor_centres) / anchor_sides, (sides / anchor_sides).log()], 1)
