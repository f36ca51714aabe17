"""What the float model detects, as labels for another model of the same weights.

A pseudo-label is the mean of what the float model detects in a picture and in the picture moved by one pixel
(``MOVES_XY``): what only one of them shows is chance, and no file shall be blamed for missing it. Against these labels
the float model's own AP, with moved pictures, is what a file can reach; its share of that is the figure.

A person's labels lie at the outlines of the objects, and the float model's boxes may all be wider or tighter than that.
Then it matters a lot whether a file makes boxes larger or smaller: on two real sets the float model's boxes are 10 to
20 % too wide, and 2 % more cost 8 % of AP (docs/int8.md). So the labels get the size of the objects, where the edges
of the pictures tell it (``outlines``); where they do not, labels of three sizes are tried, and the least of the three
figures counts. People and models also differ from box to box, which makes small errors cost less: the labels are
scattered as much as the float model's boxes are on the two sets, and the figure is the mean over some such draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Sequence, Tuple

import numpy as np

from ...anchors import anchors_for
from ...artifact import ArtifactMeta
from ...postprocess import postprocess
from ...types import Detections, ModelInput, RawOutputs
from ..agreement import compute_iou, keep_above
from ..labels import LabelledImage
from ..matching import MatchedDetections, match_dataset
from .outlines import find_excess, measure_outlines
from .perturbation import MOVES_XY, move_boxes_back, move_picture

Runner = Callable[[np.ndarray], RawOutputs]  # (1, H, W, 3) uint8 BGR -> raw outputs; an engine's ``infer``
# frames, lowest score -> a model's detections in each frame; ``detections_on`` with its first two arguments given
Detect = Callable[[Iterable[ModelInput], float], List[Detections]]

LABEL_SHARE = 0.625  # of the user's score: from which mean score on a box is a label, 0.25 of 0.4
FLOOR_SHARE = 0.2  # of the user's score: weaker detections hardly change an AP and are left out
SAME_IOU = 0.5  # from which on two detections of a class are one object
# Where the pictures do not tell how much larger than the objects the float model's boxes are: natural logarithms
UNKNOWN_EXCESSES = ((0.12, 0.12), (0.0, 0.0), (-0.12, -0.12))
# How float boxes scatter around labels on cards and street, standard deviations: logarithms of width and height 0.11 to
# 0.15 and 0.07 to 0.09, middles 0.05 to 0.07 and 0.03 to 0.04 of the sides
SCATTER_SIZE, SCATTER_MIDDLE = (0.12, 0.08), (0.06, 0.035)
DRAWS = 3


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
    """What the float model detects in some frames.

    still:    in each frame.
    moved:    for each of MOVES_XY in each moved frame, moved back.
    outlines: of each frame, the edges around what it detects there (``measure_outlines``).
    """

    still: List[Detections]
    moved: List[List[Detections]]
    outlines: List[np.ndarray]

    def __add__(self, more: FloatRuns) -> FloatRuns:
        """Return the runs of these frames and of ``more``."""
        moved = [run + other for run, other in zip(self.moved, more.moved)]
        return FloatRuns(self.still + more.still, moved, self.outlines + more.outlines)

    def first(self, count: int) -> FloatRuns:
        """Return the runs of the first ``count`` frames."""
        return FloatRuns(self.still[:count], [run[:count] for run in self.moved], self.outlines[:count])


def float_runs(detect: Detect, frames: Sequence[ModelInput], score: float) -> FloatRuns:
    """Run the float model on frames and on moved ones; ``score`` is the user's."""
    floor = score * FLOOR_SHARE
    runs = []
    for dx, dy in MOVES_XY:
        seen = detect((move_picture(frame, dx, dy) for frame in frames), floor)
        runs.append([move_boxes_back(detections, frame, dx, dy) for detections, frame in zip(seen, frames)])
    still = detect(frames, floor)
    return FloatRuns(still, runs, [outlines_of(*pair, score) for pair in zip(frames, still)])


def outlines_of(frame: ModelInput, detections: Detections, score: float) -> np.ndarray:
    """Return the edges around a frame's detections that are sure enough to be objects; ``score`` is the user's."""
    return measure_outlines(frame, keep_above(detections, score).boxes_xyxy.astype(np.float64))


class PseudoLabels:
    """Labels of some frames, and the AP that the float model reaches on them.

    count:  number of labels.
    excess: ln(box / object) of widths and of heights, by which labels are smaller than the float model's boxes; None
            where the pictures do not tell it.
    """

    def __init__(self, runs: FloatRuns, score: float, seed: int = 0) -> None:
        """``score`` is the user's; ``seed`` is that of the scatter."""
        boxes = [mean_boxes(of_frame, score * LABEL_SHARE) for of_frame in zip(runs.still, *runs.moved)]
        self.count = sum(len(class_ids) for _, class_ids in boxes)
        self._class_map = list(range(1 + max((int(ids.max()) for _, ids in boxes if len(ids)), default=-1)))
        self.excess = find_excess(runs.outlines)
        random = np.random.default_rng(seed)
        # [size][draw][frame]
        self._images = [
            [[_image(_scattered(xyxy, excess, random), ids) for xyxy, ids in boxes] for _ in range(DRAWS)]
            for excess in ([self.excess] if self.excess else UNKNOWN_EXCESSES)
        ]
        self._reachable = [
            [self._matched(images, run) for images in draws for run in runs.moved] for draws in self._images
        ]

        self._reached: Dict[bytes, List[float]] = {}

    def _matched(self, images: Sequence[LabelledImage], detections: Sequence[Detections]) -> MatchedDetections:
        return match_dataset(images, detections, self._class_map)

    def _reach(self, weights: np.ndarray) -> List[float]:
        """Return the float model's own AP for each size of labels; kept, as every file is judged by the same draws."""
        key = weights.tobytes()
        if key not in self._reached:
            self._reached[key] = [_mean_ap(runs, weights) for runs in self._reachable]
        return self._reached[key]

    def kept_by(self, detections: Sequence[Detections]) -> Callable[[np.ndarray], float]:
        """Return a function of frames' weights: the share of the float model's AP that these detections keep.

        It is the least over the sizes of labels; weights (frames,) say how often each frame counts. Without labels it
        is NaN.
        """
        matched = [[self._matched(images, detections) for images in draws] for draws in self._images]

        def kept(weights: np.ndarray) -> float:
            best = self._reach(weights)
            if not all(best):
                return float("nan")
            return min(_mean_ap(own, weights) / reach for own, reach in zip(matched, best))

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


def _mean_ap(runs: Sequence[MatchedDetections], weights: np.ndarray) -> float:
    return float(np.mean([run.compute_ap(weights) or 0.0 for run in runs]))


def _scattered(boxes_xyxy: np.ndarray, excess: Tuple[float, float], random: np.random.Generator) -> np.ndarray:
    """Return boxes of the objects' size, scattered as labels are."""
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    middles = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 + random.normal(0.0, SCATTER_MIDDLE, sides.shape) * sides
    halves = sides / 2 * np.exp(random.normal(0.0, SCATTER_SIZE, sides.shape) - np.array(excess))
    return np.hstack([middles - halves, middles + halves])


def _image(boxes_xyxy: np.ndarray, class_ids: np.ndarray) -> LabelledImage:
    areas = np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1)
    return LabelledImage(Path(), None, boxes_xyxy, class_ids, areas, np.zeros(len(class_ids), dtype=bool))
