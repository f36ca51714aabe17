"""Choose the pictures of a scene that are most worth labelling: the model is unsure of them, and they differ.

Uncertainty is summed over a picture's detections, with the entropy of each score (Brust, Kaeding, Denzler, "Active
Learning for Deep Object Detection", 2019: "sum"). Pictures are taken one by one; what resembles one of them counts
less (the greedy k-centre rule of Sener and Savarese, 2018), and so do classes that it has shown already.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence

import numpy as np

from ..errors import require
from ..types import Detections, Frame

THUMBNAIL_PX = 32
# The distance of two pictures is the mean of the largest differences of their thumbnails. The mean of all is nearly 0
# where a camera stands still, because the background fills most of the picture.
LARGEST = 10
LEAST_DISTANCE = 10 / 255  # below, two pictures show the same; camera noise moves a pixel by 2 levels


@dataclass(frozen=True, eq=False)
class Candidate:
    """A picture that may be labelled.

    index:      position in its source. ``name``: of its file without suffix, "" for a frame of a video.
    thumbnail:  (THUMBNAIL_PX, THUMBNAIL_PX) float32 in [0, 1], grey.
    detections: the model's, down to low scores.
    """

    index: int
    name: str
    thumbnail: np.ndarray
    detections: Detections


def make_candidate(frame: Frame, detections: Detections) -> Candidate:
    """Return what ``pick_telling`` needs of a frame, without its pixels."""
    cv2 = require("cv2", "edgedet label")
    grey = cv2.cvtColor(frame.bgr, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return Candidate(frame.index, Path(frame.name).stem, small.astype(np.float32) / 255.0, detections)


def pick_telling(candidates: Sequence[Candidate], count: int) -> List[Candidate]:
    """Return at most ``count`` candidates in the order of the source; fewer where the others show the same again."""
    entropies = [_entropy(candidate.detections.scores) for candidate in candidates]
    classes = max((int(candidate.detections.class_ids.max(initial=-1)) for candidate in candidates), default=-1) + 1
    shown = np.zeros(classes)  # boxes of each class, as far as they are sure, in the pictures that were taken
    distances = np.ones(len(candidates))  # to the nearest picture that was taken
    taken: List[int] = []
    while len(taken) < min(count, len(candidates)):
        values = np.array(
            [
                distances[at]
                * (0.01 + float((entropies[at] / np.sqrt(1.0 + shown[candidate.detections.class_ids])).sum()))
                for at, candidate in enumerate(candidates)
            ]
        )
        values[distances < LEAST_DISTANCE] = 0.0
        best = int(values.argmax())
        if values[best] <= 0.0:
            break
        taken.append(best)
        np.add.at(shown, candidates[best].detections.class_ids, candidates[best].detections.scores)
        distances = np.minimum(distances, [_distance(candidate, candidates[best]) for candidate in candidates])
    return [candidates[at] for at in sorted(taken)]


def _distance(a: Candidate, b: Candidate) -> float:
    difference = np.abs(a.thumbnail - b.thumbnail).ravel()
    return float(np.partition(difference, -LARGEST)[-LARGEST:].mean())


def _entropy(scores: np.ndarray) -> np.ndarray:
    """Return how many bits a label of a detection tells: 1 at the score 0.5, 0 at 0 and 1."""
    p = np.clip(scores.astype(np.float64), 1e-6, 1.0 - 1e-6)
    entropy: np.ndarray = -p * np.log2(p) - (1.0 - p) * np.log2(1.0 - p)
    return entropy
