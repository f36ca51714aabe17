"""Find the cells of a network's feature maps that its detections come from.

Most cells of a map show background, and the heads' values there are never used. Ranges for BiFPN and heads are
therefore chosen on the cells in which the float model detects something, and on their neighbours, which a 3x3
convolution reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgedet.calibration.graph.executor import Executor

SCORE = 0.1  # from which score on a cell counts; of 0.01, 0.1 and 0.27 the best for box codes
PREDICTION = "class_net.predict.conv_pw"
HEADS = ("class_net.", "box_net.")
PARTS = ("fpn.", *HEADS)

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Places:
    """Masks (h, w) of the cells of one picture that detections come from, by the size of the map.

    heads: cells of the level's own detections, for the maps of a head.
    union: cells of all levels' detections, for the maps of the BiFPN, which passes features between levels.
    """

    heads: Mapping[Size, Tensor]
    union: Mapping[Size, Tensor]

    def values(self, name: str, value: Tensor) -> Tensor | None:
        """Return the values of a map (1, C, h, w) at the places, flat; None for tensors of other parts."""
        if not name.startswith(PARTS) or value.dim() != 4:
            return None
        mask = (self.heads if name.startswith(HEADS) else self.union)[(value.shape[2], value.shape[3])]
        return value[0][:, mask].reshape(-1)


def find_places(executor: Executor, values: Mapping[str, Tensor]) -> Places:
    """Find the cells of one picture that the float model scores SCORE or more; ``values`` are ``Executor.values``'."""
    threshold = math.log(SCORE / (1.0 - SCORE))
    masks: dict[Size, Tensor] = {}
    for node in executor.nodes:
        if node.output[0].startswith(PREDICTION) and node.op_type == "Conv":
            value = values[node.output[0]]
            detected = (value.amax(1, keepdim=True) > threshold).float()
            masks[(value.shape[2], value.shape[3])] = F.max_pool2d(detected, 3, 1, 1)
    finest = max(masks)
    all_levels = torch.stack([F.interpolate(mask, finest, mode="nearest") for mask in masks.values()]).amax(0)
    union = {size: F.adaptive_max_pool2d(all_levels, size)[0, 0] > 0 for size in masks}
    return Places({size: mask[0, 0] > 0 for size, mask in masks.items()}, union)
