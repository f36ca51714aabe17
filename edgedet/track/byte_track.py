"""ByteTrack: one number for each object, from frame to frame.

Zhang et al., ByteTrack: Multi-Object Tracking by Associating Every Detection Box (ECCV 2022, arXiv 2110.06864). Sure
detections are matched with all tracks by IoU first; what is left of the tracks is then matched with unsure detections,
which are often objects that are half hidden. Defaults and noises are those of the package trackers 2.6, to whose
output a test holds this one (docs/decisions/0022-events.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np

from ..types import Detections, Track
from .assignment import assign

LOW_SHARE = 0.5  # of the score threshold: detections down to it may continue a track
LOST_S = 2.0  # without a detection, a track ends
MIN_HITS = 2  # detections in successive frames make a track
MIN_IOU = 0.1  # of a detection and where the track should be
REFERENCE_FPS = 10.0  # the noises are those of one step at this rate; a longer step adds as much more

_PROCESS_NOISE, _MEASUREMENT_NOISE = 0.01, 0.1  # variances; only their ratio matters, whatever the size of the picture
NO_TRACK = -1


class _Motion:
    """A Kalman filter with constant velocity of the four coordinates of a box.

    All four have the same noises and are observed together, so they share one 2 x 2 covariance.
    """

    def __init__(self, box_xyxy: np.ndarray) -> None:
        self._state = np.zeros((2, 4))  # positions, and velocities in pixels a step
        self._state[0] = box_xyxy
        self._covariance = np.eye(2)

    @property
    def box_xyxy(self) -> np.ndarray:
        """Return (4,) the estimate of the box."""
        box_xyxy: np.ndarray = self._state[0]
        return box_xyxy

    def predict(self, steps: float) -> None:
        transition = np.array([[1.0, steps], [0.0, 1.0]])
        self._state = transition @ self._state
        self._covariance = transition @ self._covariance @ transition.T + _PROCESS_NOISE * steps * np.eye(2)

    def update(self, box_xyxy: np.ndarray) -> None:
        gain = self._covariance[:, 0] / (self._covariance[0, 0] + _MEASUREMENT_NOISE)
        self._state += gain[:, None] * (box_xyxy - self._state[0])
        self._covariance = self._covariance - np.outer(gain, self._covariance[0])


@dataclass
class _Candidate:
    """A track, or what may become one: ``id`` is NO_TRACK until MIN_HITS detections followed one another."""

    motion: _Motion
    class_id: int
    score: float
    box_xyxy: np.ndarray  # of the last detection
    seen_s: float
    id: int = NO_TRACK
    hits: int = 1
    seen: bool = True  # in the newest frame


class ByteTracker:
    """The tracks of one camera. Objects of different classes are never one track."""

    def __init__(self, lost_s: float = LOST_S, min_hits: int = MIN_HITS, min_iou: float = MIN_IOU) -> None:
        """Begin without tracks; ids count from 1."""
        self._lost_s, self._min_hits, self._min_iou = lost_s, min_hits, min_iou
        self._candidates: List[_Candidate] = []
        self._last_id = 0
        self._last_s: Optional[float] = None

    @property
    def tracks(self) -> Tuple[Track, ...]:
        """Return the tracks that live, those included that the newest frame did not show."""
        return tuple(
            Track(candidate.id, candidate.class_id, candidate.score, _as_box(candidate.box_xyxy), candidate.seen)
            for candidate in self._candidates
            if candidate.id != NO_TRACK
        )

    def update(self, detections: Detections, captured_s: float, score: float) -> np.ndarray:
        """Take the next frame's detections; return (n,) int64 the track's id of each, NO_TRACK for none.

        captured_s: in seconds, of any clock that does not go back.
        score:      detections from it up begin tracks; those below may continue one.
        """
        elapsed_s = 0.0 if self._last_s is None else max(0.0, captured_s - self._last_s)
        self._last_s = captured_s
        self._predict(elapsed_s, captured_s)
        ids = np.full(len(detections), NO_TRACK, np.int64)
        sure = np.flatnonzero(detections.scores >= score)
        unsure = np.flatnonzero(detections.scores < score)
        left, new = self._match(self._candidates, detections, sure, ids, captured_s)
        self._match(left, detections, unsure, ids, captured_s)
        self._candidates = [candidate for candidate in self._candidates if candidate.seen or candidate.id != NO_TRACK]
        for index in new:
            box_xyxy = detections.boxes_xyxy[index]
            candidate = _Candidate(
                _Motion(box_xyxy),
                int(detections.class_ids[index]),
                float(detections.scores[index]),
                box_xyxy,
                captured_s,
            )
            self._confirm(candidate)
            ids[index] = candidate.id
            self._candidates.append(candidate)
        return ids

    def _predict(self, elapsed_s: float, captured_s: float) -> None:
        self._candidates = [
            candidate for candidate in self._candidates if captured_s - candidate.seen_s <= self._lost_s
        ]
        for candidate in self._candidates:
            if elapsed_s:
                candidate.motion.predict(elapsed_s * REFERENCE_FPS)
            if not candidate.seen:
                candidate.hits = 0
            candidate.seen = False

    def _match(
        self,
        candidates: Sequence[_Candidate],
        detections: Detections,
        indices: np.ndarray,
        ids: np.ndarray,
        captured_s: float,
    ) -> Tuple[List[_Candidate], List[int]]:
        """Continue candidates by the detections at ``indices``; return the candidates and the indices that are left."""
        taken = set()
        if len(candidates) and len(indices):
            boxes_xyxy = np.array([candidate.motion.box_xyxy for candidate in candidates])
            iou = iou_of(boxes_xyxy, detections.boxes_xyxy[indices].astype(np.float64))
            classes = np.array([candidate.class_id for candidate in candidates])
            iou[classes[:, None] != detections.class_ids[indices][None, :]] = 0.0
            for row, column in assign(iou):
                if iou[row, column] >= self._min_iou:
                    candidate, index = candidates[row], int(indices[column])
                    candidate.motion.update(detections.boxes_xyxy[index].astype(np.float64))
                    candidate.box_xyxy, candidate.score = detections.boxes_xyxy[index], float(detections.scores[index])
                    candidate.seen, candidate.seen_s = True, captured_s
                    candidate.hits += 1
                    self._confirm(candidate)
                    ids[index] = candidate.id
                    taken.add(index)
        return [candidate for candidate in candidates if not candidate.seen], [
            int(index) for index in indices if index not in taken
        ]

    def _confirm(self, candidate: _Candidate) -> None:
        if candidate.id == NO_TRACK and candidate.hits >= self._min_hits:
            self._last_id += 1
            candidate.id = self._last_id


def _as_box(box_xyxy: np.ndarray) -> Tuple[float, float, float, float]:
    x1, y1, x2, y2 = box_xyxy.tolist()
    return x1, y1, x2, y2


def iou_of(boxes_xyxy: np.ndarray, others_xyxy: np.ndarray) -> np.ndarray:
    """Return (n, m) the IoU of each of n boxes with each of m others."""
    top_left = np.maximum(boxes_xyxy[:, None, :2], others_xyxy[None, :, :2])
    bottom_right = np.minimum(boxes_xyxy[:, None, 2:], others_xyxy[None, :, 2:])
    overlap = np.prod(np.clip(bottom_right - top_left, 0.0, None), axis=2)
    areas = [np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None), axis=1) for boxes in (boxes_xyxy, others_xyxy)]
    union = areas[0][:, None] + areas[1][None, :] - overlap
    iou: np.ndarray = np.where(union > 0, overlap / np.maximum(union, 1e-12), 0.0)
    return iou
