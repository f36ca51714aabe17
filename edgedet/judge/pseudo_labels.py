"""What the float model detects, as labels for another model of the same weights. Knows detections; knows no engine.

A pseudo-label is the mean of what the float model detects in a picture and in the picture moved by one pixel
(``MOVES_XY``): what only one of them shows is chance, and no file shall be blamed for missing it. Against these labels
the float model's own AP, with moved pictures, is what a file can reach; its share of that is the figure.

A person's labels may all be tighter or wider than the boxes of the model, and then it matters a lot whether a file
makes boxes larger or smaller: on two real sets the float model's boxes are 15 to 20 % too wide, and 2 % more cost 8 %
of AP (docs/int8.md). So the labels come in three sizes, and the least of the three figures counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, List, Sequence, Tuple

import numpy as np

from ..anchors import anchors_for
from ..artifact import ArtifactMeta
from ..postprocess import postprocess
from ..types import Detections, ModelInput, RawOutputs
from .agreement import compute_iou
from .labels import LabelledImage
from .matching import MatchedDetections, match_dataset
from .perturbation import MOVES_XY, move_boxes_back, move_picture

Runner = Callable[[np.ndarray], RawOutputs]  # (1, H, W, 3) uint8 BGR -> raw outputs; an engine's ``infer``

LABEL_SHARE = 0.625  # of the user's score: from which mean score on a box is a label, 0.25 of 0.4
FLOOR_SHARE = 0.2  # of the user's score: weaker detections hardly change an AP and are left out
SAME_IOU = 0.5  # from which on two detections of a class are one object
SIZES = (0.88, 1.0, 1.12)  # of a label's width and height, as shares of what the float model draws


def detections_on(runner: Runner, meta: ArtifactMeta, frames: Iterable[ModelInput], score: float) -> List[Detections]:
    """Return what a model detects in each frame from ``score`` up, in pixels of its source.

    meta: of the model's file, whose rules of post-processing are followed.
    """
    anchors_yxyx = anchors_for(meta.spec)
    return [
        postprocess(
            runner(frame.pixels),
            anchors_yxyx,
            frame.scale_to_source,
            frame.source_hw,
            score=score,
            rules=meta.nms,
            input_hw=meta.spec.input_hw,
        )
        for frame in frames
    ]


@dataclass(frozen=True, eq=False)
class FloatRuns:
    """What the float model detects: in each frame, and for each of MOVES_XY in each moved frame, moved back."""

    still: List[Detections]
    moved: List[List[Detections]]

    def __add__(self, more: FloatRuns) -> FloatRuns:
        """Return the runs of these frames and of ``more``."""
        return FloatRuns(self.still + more.still, [one + other for one, other in zip(self.moved, more.moved)])


def float_runs(runner: Runner, meta: ArtifactMeta, frames: Sequence[ModelInput], score: float) -> FloatRuns:
    """Run the float model on frames and on moved ones; ``score`` is the user's."""
    floor = score * FLOOR_SHARE
    runs = []
    for dx, dy in MOVES_XY:
        seen = detections_on(runner, meta, (move_picture(frame, dx, dy) for frame in frames), floor)
        runs.append([move_boxes_back(one, frame, dx, dy) for one, frame in zip(seen, frames)])
    return FloatRuns(detections_on(runner, meta, frames, floor), runs)


class PseudoLabels:
    """Labels of some frames, in three sizes, and the AP that the float model reaches on them."""

    def __init__(self, runs: FloatRuns, score: float) -> None:
        """``score`` is the user's."""
        boxes = [mean_boxes(of_frame, score * LABEL_SHARE) for of_frame in zip(runs.still, *runs.moved)]
        self.count = sum(len(class_ids) for _, class_ids in boxes)
        self._class_map = list(range(1 + max((int(ids.max()) for _, ids in boxes if len(ids)), default=-1)))
        self._images = [[_image(_resized(xyxy, size), ids) for xyxy, ids in boxes] for size in SIZES]
        self._reachable = [[self._matched(images, run) for run in runs.moved] for images in self._images]

    def _matched(self, images: Sequence[LabelledImage], detections: Sequence[Detections]) -> MatchedDetections:
        return match_dataset(images, detections, self._class_map)

    def kept_by(self, detections: Sequence[Detections]) -> Callable[[np.ndarray], float]:
        """Return a function of frames' weights: the share of the float model's AP that these detections keep.

        It is the least over SIZES; weights (frames,) say how often each frame counts. Without labels it is NaN.
        """
        matched = [self._matched(images, detections) for images in self._images]

        def kept(weights: np.ndarray) -> float:
            shares = []
            for own, reachable in zip(matched, self._reachable):
                best = [ap for run in reachable if (ap := run.compute_ap(weights)) is not None]
                if not best or not sum(best):
                    return float("nan")
                shares.append((own.compute_ap(weights) or 0.0) / float(np.mean(best)))
            return min(shares)

        return kept


def mean_boxes(runs: Sequence[Detections], least: float) -> Tuple[np.ndarray, np.ndarray]:
    """Join several runs' detections of one frame where they are one object; return (n, 4) boxes and (n,) class ids.

    A box is the mean of those that were joined; its score is the mean over all runs, 0 where a run lacks it, and boxes
    below ``least`` are left out.
    """
    sums, scores = np.zeros((0, 4)), np.zeros(0)
    counts, class_ids = np.zeros(0), np.zeros(0, dtype=np.int64)
    for run in runs:
        overlap = compute_iou(run.boxes_xyxy, sums / np.maximum(counts, 1)[:, None])
        overlap[run.class_ids[:, None] != class_ids[None]] = 0.0
        new = np.ones(len(run), dtype=bool)
        for at in np.flatnonzero((overlap >= SAME_IOU).any(1)):  # best score first
            best = int(np.argmax(overlap[at]))
            if overlap[at, best] >= SAME_IOU:
                overlap[:, best] = 0.0
                sums[best] += run.boxes_xyxy[at]
                scores[best] += run.scores[at]
                counts[best] += 1
                new[at] = False
        sums = np.concatenate([sums, run.boxes_xyxy[new]])
        scores = np.concatenate([scores, run.scores[new]])
        counts = np.concatenate([counts, np.ones(int(new.sum()))])
        class_ids = np.concatenate([class_ids, run.class_ids[new]])
    kept = scores / len(runs) >= least
    return (sums / np.maximum(counts, 1)[:, None])[kept], class_ids[kept]


def _resized(boxes_xyxy: np.ndarray, size: float) -> np.ndarray:
    centres, halves = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2
    return np.hstack([centres - size * halves, centres + size * halves])


def _image(boxes_xyxy: np.ndarray, class_ids: np.ndarray) -> LabelledImage:
    areas = np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1)
    return LabelledImage(Path(), None, boxes_xyxy, class_ids, areas, np.zeros(len(class_ids), dtype=bool))
