"""Detections and labels for tests of the judge: by hand, in a row, and at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgedet.judge.labels import LabelledImage
from edgedet.types import Detections


def detected(*rows):
    """Rows are (x1, y1, x2, y2, score, class id), best score first."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


def labelled(*rows):
    """Rows are (x1, y1, x2, y2, class id, ignored)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    areas = (table[:, 2] - table[:, 0]) * (table[:, 3] - table[:, 1])
    return LabelledImage(
        Path("x.png"), None, table[:, :4], table[:, 4].astype(np.int64), areas, table[:, 5].astype(bool)
    )


def row_of_boxes(count, score=0.9, shift=0.0):
    """``count`` boxes 10 x 10 side by side, scores falling by 0.001."""
    return [(20 * n + shift, 0, 20 * n + 10 + shift, 10, score - 0.001 * n, 0) for n in range(count)]


def random_set(seed, images=15, classes=3):
    """Labels, some ignored, and detections of which most lie near a label; scores repeat."""
    random = np.random.default_rng(seed)
    pictures, detections = [], []
    for _ in range(images):
        corners = random.uniform(0, 400, (int(random.integers(0, 8)), 2))
        boxes = np.hstack([corners, corners + random.uniform(60, 150, corners.shape)])
        class_ids = random.integers(0, classes, len(boxes))
        ignored = random.random(len(boxes)) < 0.15
        pictures.append(labelled(*[(*b, c, i) for b, c, i in zip(boxes, class_ids, ignored, strict=True)]))
        near = np.repeat(boxes, 2, axis=0) + random.normal(0, 6, (2 * len(boxes), 4))
        far = random.uniform(0, 300, (4, 4))
        far[:, 2:] += far[:, :2]
        rows = np.vstack([near, far])
        scores = np.round(np.sort(random.uniform(0.02, 1, len(rows)))[::-1], 2)
        ids = np.append(np.repeat(class_ids, 2), random.integers(0, classes, 4))
        order = random.permutation(len(rows))
        detections.append(detected(*[(*rows[k], s, ids[k]) for k, s in zip(order, scores, strict=True)]))
    return pictures, detections
