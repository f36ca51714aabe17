"""Where on its feature maps a network's detections come from.

Most cells of a map see background, and what heads say there is never used. Ranges for BiFPN and heads are therefore
judged on the cells that the float model detects something in, and their neighbours, which a 3x3 convolution reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgedet.calibration.graph.executor import Executor

SCORE = 0.1  # of 0.01, 0.1 and 0.27 the best for box codes: lower ones are background, of higher ones there are few
PREDICTION = "class_net.predict.conv_pw"
HEADS = ("class_net.", "box_net.")
PARTS = ("fpn.", *HEADS)

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Places:
    """Masks (h, w) of one picture's cells, by the size of the map.

    heads: the level's own detections, for a head's maps.
    union: those of all levels, for the BiFPN's maps, which pass them on.
    """

    heads: Mapping[Size, Tensor]
    union: Mapping[Size, Tensor]

    def values(self, name: str, value: Tensor) -> Tensor | None:
        """Return what a map (1, C, h, w) holds at the places, flat; None for values of other parts."""
        if not name.startswith(PARTS) or value.dim() != 4:
            return None
        mask = (self.heads if name.startswith(HEADS) else self.union)[(value.shape[2], value.shape[3])]
        return value[0][:, mask].reshape(-1)


def find_places(executor: Executor, values: Mapping[str, Tensor]) -> Places:
    """Return where the float model scores SCORE and more in one picture; ``values`` are the executor's of it."""
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
