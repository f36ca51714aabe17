"""Synthetic scenes with known tracks: boxes that walk, hide behind one another, and are detected with noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgedet.types import Detections

PICTURE_WH = (640, 480)


@dataclass(frozen=True)
class TrackedFrame:
    """Of one frame: true boxes (n, 4) with their objects' ids (n,), and what a detector found."""

    time_s: float
    boxes_xyxy: np.ndarray
    ids: np.ndarray
    detections: Detections


def walking_scene(
    seed: int, objects: int = 8, frames: int = 120, fps: float = 10.0, classes: int = 1, missed: float = 0.05
) -> list[TrackedFrame]:
    """Return frames in which objects walk straight on and turn at the picture's edges.

    A detector of this scene misses a share of the objects, is unsure (score 0.25 to 0.5) where another object hides
    half of one, finds nothing where it is hidden more, and invents a box now and then.
    """
    rng = np.random.default_rng(seed)
    wh = np.stack([rng.uniform(30, 60, objects), rng.uniform(60, 120, objects)], 1)
    at = rng.uniform([0, 0], np.array(PICTURE_WH) - wh)
    speed = rng.uniform(10, 60, (objects, 2)) * rng.choice([-1, 1], (objects, 2)) / fps
    class_ids = rng.integers(0, classes, objects)
    scene = []
    for number in range(frames):
        at = at + speed
        speed = np.where((at < 0) | (at + wh > PICTURE_WH), -speed, speed)
        at = np.clip(at, 0, np.array(PICTURE_WH) - wh)
        boxes = np.concatenate([at, at + wh], 1)
        hidden = _hidden_shares(boxes)
        scores = np.where(hidden > 0.5, rng.uniform(0.25, 0.5, objects), rng.uniform(0.6, 0.95, objects))
        detected = (hidden < 0.8) & (rng.random(objects) > missed)
        noisy = boxes + rng.normal(0, 1.5, boxes.shape)
        invented = rng.random() < 0.1
        extra = rng.uniform([0, 0, 0, 0], [500, 300, 0, 0]) + [0, 0, 50, 100]
        all_boxes = np.concatenate([noisy[detected], extra[None]] if invented else [noisy[detected]])
        all_scores = np.append(scores[detected], 0.55) if invented else scores[detected]
        all_classes = np.append(class_ids[detected], 0) if invented else class_ids[detected]
        order = np.argsort(-all_scores)
        detections = Detections(
            all_boxes[order].astype(np.float32), all_scores[order].astype(np.float32), all_classes[order]
        )
        scene.append(TrackedFrame(number / fps, boxes, np.arange(objects), detections))
    return scene


def _hidden_shares(boxes: np.ndarray) -> np.ndarray:
    """Return (n,) the largest share of each box that one nearer to the camera covers: one that ends lower."""
    shares = np.zeros(len(boxes))
    for i, box in enumerate(boxes):
        for other in boxes:
            if other[3] > box[3]:
                sides = np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None)
                shares[i] = max(shares[i], sides.prod() / (box[2:] - box[:2]).prod())
    return shares
