"""The loss of EfficientDet: focal for classes, Huber for boxes; equal to effdet's (effdet/loss.py).

Focal loss: arXiv 1708.02002. alpha, gamma, delta and the weight of boxes are google/automl's (hparams_config.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgedet.training.targets import IGNORED, Targets

ALPHA, GAMMA = 0.25, 1.5
HUBER_DELTA = 0.1
BOX_WEIGHT = 50.0


def compute_loss(
    class_logits: Tensor, box_codes: Tensor, targets: Targets, positives: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (class loss, box loss) of a batch; the loss of a training is the first plus BOX_WEIGHT times the second.

    class_logits: (N, A, C); box_codes: (N, A, 4).
    positives:    what the sums are divided by, less 1; None: the batch's own.
    """
    normaliser = (targets.positives if positives is None else positives).float() + 1.0
    target_scores = torch.zeros_like(class_logits, dtype=torch.float32)
    target_scores.scatter_(2, targets.class_ids.clamp_min(0)[..., None], targets.scores[..., None])
    counted = (targets.class_ids != IGNORED)[..., None]
    class_loss = (compute_focal_loss(class_logits.float(), target_scores) * counted).sum() / normaliser
    errors = F.huber_loss(box_codes.float(), targets.box_codes, reduction="none", delta=HUBER_DELTA)
    box_loss = (errors * (targets.box_codes != 0)).sum() / (4.0 * normaliser)
    return class_loss, box_loss


def compute_focal_loss(logits: Tensor, target_scores: Tensor) -> Tensor:
    """Return the focal loss of each logit; ``target_scores`` in [0, 1].

    For 0 and 1 it is effdet's ``new_focal_loss``. Between them it is least where the score equals the target, which
    effdet's is not: the quality focal loss of Li et al., arXiv 2006.04388, equation 5, with alpha.
    """
    p = logits.sigmoid()
    alpha = target_scores * ALPHA + (1 - target_scores) * (1 - ALPHA)
    return (
        alpha
        * (target_scores - p).abs() ** GAMMA
        * F.binary_cross_entropy_with_logits(logits, target_scores, reduction="none")
    )
