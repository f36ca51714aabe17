"""Boxes of motion and of objects, joined to the regions of a picture that are looked at."""

from __future__ import annotations

from typing import List

import numpy as np


def grow_boxes(boxes_xyxy: np.ndarray, margin: float, limits_xyxy: np.ndarray) -> np.ndarray:
    """Return (n, 4) boxes that are larger by ``margin`` of their size on each side, within a picture of that size."""
    grown = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) * margin
    boxes = boxes_xyxy + np.concatenate([-grown, grown], axis=1)
    clipped: np.ndarray = np.clip(boxes, 0.0, limits_xyxy)
    return clipped


def overlaps(boxes_xyxy: np.ndarray, others_xyxy: np.ndarray) -> np.ndarray:
    """Return (n, m) booleans: whether boxes have pixels in common."""
    before = boxes_xyxy[:, None, :2] < others_xyxy[None, :, 2:]
    after = boxes_xyxy[:, None, 2:] > others_xyxy[None, :, :2]
    return np.asarray((before & after).all(axis=2))


def hold_objects(boxes_xyxy: np.ndarray, objects_xyxy: np.ndarray) -> np.ndarray:
    """Return (n, 4) boxes, each with all of the objects that it touches, so that a look cuts none that moved."""
    touched = overlaps(boxes_xyxy, objects_xyxy)
    return np.array(
        [_around([box, *objects_xyxy[touched[at]]]) for at, box in enumerate(boxes_xyxy)], np.float64
    ).reshape(-1, 4)


def join_near(boxes_xyxy: np.ndarray, side_px: float) -> List[np.ndarray]:
    """Join boxes where one lies in another, or where both fit into a square of ``side_px``; return the result."""
    boxes: List[np.ndarray] = []
    for box in boxes_xyxy[np.argsort(-np.ptp(boxes_xyxy.reshape(-1, 2, 2), axis=1).max(axis=1))]:  # largest first
        for at, other in enumerate(boxes):
            around = _around([box, other])
            if (around[2:] - around[:2]).max() <= side_px or np.array_equal(around, other):
                boxes[at] = around
                break
        else:
            boxes.append(box)
    return boxes


def _around(boxes: List[np.ndarray]) -> np.ndarray:
    stacked = np.array(boxes)
    return np.concatenate([stacked[:, :2].min(axis=0), stacked[:, 2:].max(axis=0)])
