"""Whether an INT8 model may take the float model's place, by labels: the share of AP that it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ...errors import InputError
from ...postprocess import DEFAULT_SCORE
from ...types import Detections
from ..labels import LabelledImage
from ..matching import MatchedDetections, match_dataset
from .verdict import LOW_PERCENTILE, MIN_BOXES, SHARE_ON_LABELS, UNSURE, Verdict, decide, resample

MAX_DROP_PERCENT = 1.0  # of the float model's AP
LABELS_SCORE_FLOOR = 0.01  # AP counts what scores more, as effdet's validation does
LEAST_RUNS, SETTLED = 3, 3.0  # runs over labelled images, and standard errors of their mean, after which it may end
LEAST_DEVIATION = 0.01  # of AP between runs: three that happen to agree shall not end it (0.01 to 0.02 in the study)
RESAMPLES = 1000  # of images


def verdict_on_labels(
    images: Sequence[LabelledImage],
    float_detections: Sequence[Detections],
    int8_runs: Sequence[Sequence[Detections]],
    class_map: Sequence[int],
    score: float = DEFAULT_SCORE,
    seed: int = 0,
    max_drop_percent: float = MAX_DROP_PERCENT,
) -> Verdict:
    """Judge both models' detections, above LABELS_SCORE_FLOOR, by the labels of the same images.

    int8_runs: what the INT8 file detects in each of several runs over the images, each changed a little
               (``PerturbedEngine``): its AP is the mean. Other figures are the first run's.
    class_map: the model's class id for each class of the labels, -1 for labels to leave out (``match_classes``).
    Raises InputError where the drop allowed is no percentage.
    """
    if not 0.0 <= max_drop_percent < 100.0:
        raise InputError(f"the drop of AP that is allowed lies between 0 and 100 percent; got {max_drop_percent}.")
    reference = match_dataset(images, float_detections, class_map)
    runs = [match_dataset(images, detections, class_map) for detections in int8_runs]
    everything = np.ones(len(images))
    boxes = int(reference.ground_truth_counts.sum())
    ap_float, ap_int8 = reference.compute_ap(everything), mean_ap(runs, everything)

    def kept(weights: np.ndarray) -> float | None:
        before, after = reference.compute_ap(weights), mean_ap(runs, weights)
        return after / before if before and after is not None else None

    reason, remedy = _doubt_of_labels(boxes, ap_float)
    required = 1.0 - max_drop_percent / 100.0
    value = kept(everything)
    tp, positives = runs[0].count_at_score(score)
    return Verdict(
        verdict=decide(reason, value, required),
        reason=reason,
        remedy=remedy,
        figure=SHARE_ON_LABELS,
        value=value,
        low=low_percentile(kept, len(images), seed),
        required=required,
        images=len(images),
        boxes=boxes,
        score=score,
        score_int8=runs[0].find_score_for_precision(*reference.count_at_score(score)),
        precision=tp / positives if positives else None,
        recall=tp / boxes if boxes else None,
        ap_float=ap_float,
        ap_int8=ap_int8,
    )


def foresee_on_labels(
    images: Sequence[LabelledImage],
    float_detections: Sequence[Detections],
    class_map: Sequence[int],
    score: float,
    max_drop_percent: float,
) -> Verdict | None:
    """Return the verdict of every file where it is UNSURE whatever the file detects; None elsewhere."""
    reference = match_dataset(images, float_detections, class_map)
    boxes, ap_float = int(reference.ground_truth_counts.sum()), reference.compute_ap(np.ones(len(images)))
    reason, remedy = _doubt_of_labels(boxes, ap_float)
    if not reason:
        return None
    required = 1.0 - max_drop_percent / 100.0
    return Verdict(UNSURE, reason, SHARE_ON_LABELS, None, None, required, len(images), boxes, score, remedy)


def _doubt_of_labels(boxes: int, ap_float: float | None) -> tuple[str, str]:
    """Return reason and remedy where labels tell nothing."""
    if boxes < MIN_BOXES:
        return f"{boxes} labelled boxes, {MIN_BOXES} are needed", "give more labelled images"
    if not ap_float:
        return "the float model's own AP is 0", "check that labels and model name the same classes"
    return "", ""


def is_settled(aps: Sequence[float], required: float) -> bool:
    """Return whether more runs would hardly move the mean AP across ``required``: a sequential test.

    aps: of the runs so far. True where the mean is SETTLED standard errors away, after LEAST_RUNS.
    """
    if len(aps) < LEAST_RUNS:
        return False
    deviation = max(float(np.std(aps, ddof=1)), LEAST_DEVIATION * required)
    return abs(float(np.mean(aps)) - required) > SETTLED * deviation / math.sqrt(len(aps))


def mean_ap(runs: Sequence[MatchedDetections], weights: np.ndarray) -> float | None:
    """Return the mean AP of several runs over the same images; None without labels."""
    values = [value for run in runs if (value := run.compute_ap(weights)) is not None]
    return float(np.mean(values)) if values else None


def low_percentile(
    figure: Callable[[np.ndarray], float | None], images: int, seed: int, resamples: int = RESAMPLES
) -> float | None:
    """Return the figure's LOW_PERCENTILE over draws of as many images, with replacement.

    ``figure`` is given how often each image was drawn: the same for both models, which makes the comparison paired.
    """
    values = resample(figure, images, seed, resamples)
    return float(np.percentile(values, LOW_PERCENTILE)) if values else None
