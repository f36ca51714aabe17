"""Compute the anchor boxes of a detector from its spec."""

from __future__ import annotations

import numpy as np

from .specs import DetectorSpec


def anchors_for(spec: DetectorSpec) -> np.ndarray:
    """Return (A, 4) float32 y1 x1 y2 x2 in pixels of the model's input, in the order of the network's outputs.

    Order: levels from the finest, cells row by row, then anchor scales, then aspect ratios. Boxes may reach outside
    the input. Equal to the last bit to rwightman effdet/anchors.py ``Anchors``, which follows google/automl
    efficientdet/tf2/anchors.py; hence float64 until the end, and a stride that is a fraction where ceil division
    made the level larger than input / 2**level.
    """
    ratios_yx = np.array([(h, w) for w, h in spec.aspect_ratios])
    scales = np.array(spec.anchor_scales)
    levels = []
    for level_hw in spec.level_sizes():
        strides_yx = [side / float(cells) for side, cells in zip(spec.input_hw, level_hw)]
        centres_y, centres_x = (np.arange(stride / 2, side, stride) for stride, side in zip(strides_yx, spec.input_hw))
        centres_yx = np.stack(np.meshgrid(centres_y, centres_x, indexing="ij"), axis=-1)[:, :, None, None, :]
        # (scales, ratios, 2): half the height and width of each shape on this level
        halves_yx = spec.anchor_scale * np.array(strides_yx) * scales[:, None, None] * ratios_yx / 2.0
        corners = np.concatenate([centres_yx - halves_yx, centres_yx + halves_yx], axis=-1)
        levels.append(corners.reshape(-1, 4).astype(np.float32))
    return np.concatenate(levels)
