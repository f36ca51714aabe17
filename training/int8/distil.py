"""A loss that asks a network for a teacher's outputs, anchor by anchor. An INT8 network's teacher is the float one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgedet.training.fit import MoreLoss
from edgedet.training.loss import BOX_WEIGHT, HUBER_DELTA, compute_focal_loss
from edgedet.training.samples import Batch


def make_teacher_loss(teacher: nn.Module, weight: float = 1.0) -> MoreLoss:
    """Return a loss that is least where logits and codes are the teacher's on the same pixels.

    It is ``compute_loss`` with the teacher's scores as labels of all anchors; codes count by the teacher's best score,
    since those of the background mean nothing.
    """
    teacher.eval().requires_grad_(False)

    def compute(batch: Batch, class_logits: Tensor, box_codes: Tensor) -> Tensor:
        with torch.no_grad():
            logits, codes = teacher(batch.pixels)
            scores = logits.float().sigmoid()
            sure = scores.amax(2)
            normaliser = sure.sum() + 1.0
        class_loss = compute_focal_loss(class_logits, scores).sum() / normaliser
        errors = F.huber_loss(box_codes, codes.float(), reduction="none", delta=HUBER_DELTA)
        box_loss = (errors * sure[..., None]).sum() / (4.0 * normaliser)
        return weight * (class_loss + BOX_WEIGHT * box_loss)

    return compute
