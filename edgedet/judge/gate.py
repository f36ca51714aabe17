"""Whether an INT8 model does what the float model did: verdict and figures. Knows detections and labels; no engine.

Without labels, what the float model finds at the user's score is the truth, and the figure is F1. With labels, it is
the share of the float model's AP that is kept. Each figure comes with a percentile of the bootstrap over images
(Efron 1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..postprocess import DEFAULT_SCORE
from ..types import Detections
from .agreement import (
    FAILED,
    MIN_BOXES,
    MIN_F1,
    PASSED,
    TIGHT_IOU,
    UNVERIFIED,
    above,
    agreement_of,
    f1_of,
    judged,
)
from .labels import LabelledImage
from .matching import Judged, joined

MAX_DROP_PERCENT = 1.0  # of the float model's AP
LABELS_SCORE_FLOOR = 0.01  # AP counts what scores more, as effdet's validation does
FLOOR_SHARE = 0.25  # of the user's score: how far down an INT8 threshold is looked for, without labels
RESAMPLES = 1000
LOW_PERCENTILE = 5.0


@dataclass(frozen=True)
class GateReport:
    """The verdict on an INT8 file, for printing and for the file's metadata.

    verdict:     PASSED, FAILED or UNVERIFIED.
    reason:      why it is UNVERIFIED, else "".
    figure:      "F1" against the float model's detections, or "share of float AP" against labels.
    value:       of the figure, in [0, 1] (a share of AP may exceed 1); None where it is undefined.
    low:         the figure's 5th percentile over resampled pictures; None where it is undefined.
    required:    the least value that passes.
    images:      number of pictures.
    boxes:       number of boxes of truth in them.
    score:       the user's threshold.
    score_int8:  threshold for the INT8 file that keeps the float model's precision, or, without labels, that gives as
                 many boxes (its precision and recall are then equal); None where nothing tells.
    precision:   of the INT8 file at ``score`` against the truth; None without boxes.
    recall:      likewise.
    tight:       without labels only, F1 at IoU TIGHT_IOU, of which ``required`` passes, too.
    ap_float:    with labels only, COCO's AP.
    ap_int8:     with labels only.
    """

    verdict: str
    reason: str
    figure: str
    value: float | None
    low: float | None
    required: float
    images: int
    boxes: int
    score: float
    score_int8: float | None = None
    precision: float | None = None
    recall: float | None = None
    tight: float | None = None
    ap_float: float | None = None
    ap_int8: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)

    def line(self) -> str:
        """Return the verdict in one line."""
        parts = [f"{self.figure} {_shown(self.value)}, at least {self.required:.4f} passes"]
        if self.ap_float is not None and self.ap_int8 is not None:
            parts[0] = f"AP {self.ap_int8:.4f} of {self.ap_float:.4f}: {parts[0]}"
        if self.tight is not None:
            parts.append(f"at IoU {TIGHT_IOU} {self.tight:.4f}, likewise")
        if self.low is not None:
            parts.append(f"5th percentile {self.low:.4f}")
        parts.append(f"{self.boxes} boxes in {self.images} images")
        if self.score_int8 is not None:
            effect = (
                "keeps the float model's precision" if self.ap_float is not None else "finds as many boxes as float"
            )
            parts.append(f"score {self.score_int8:.3f} {effect} at {self.score:g}")
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.verdict}{reason}: {'; '.join(parts)}"


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


# --- without labels ---------------------------------------------------------------------------------------------


def compare(
    float_found: Sequence[Detections],
    int8_found: Sequence[Detections],
    score: float = DEFAULT_SCORE,
    seed: int = 0,
    min_f1: float = MIN_F1,
) -> GateReport:
    """Judge INT8 detections by those of the float model, frame by frame.

    Both may hold detections below ``score``: they do not count in F1, but the INT8 threshold is looked for among them.
    """
    truth = [above(found, score) for found in float_found]
    agreement = agreement_of([above(found, score) for found in int8_found], truth)
    counts, boxes = agreement.counts, agreement.boxes
    right, found, wanted = counts.sum(0)
    reason = ""
    if boxes < MIN_BOXES:
        reason = (
            f"the float model finds {boxes} boxes at score {score:g} on the gate's frames, "
            f"{MIN_BOXES} are needed: give more frames, or a lower --score"
        )
    elif len({found.scores.tobytes() for found in truth}) == 1 < len(truth):
        reason = "the float model finds the same in every frame: it does not look at the picture"
    return GateReport(
        verdict=_verdict(reason, judged(agreement.f1, agreement.tight), min_f1),
        reason=reason,
        figure="F1",
        value=agreement.f1,
        low=low_percentile(lambda weights: f1_of(weights @ counts), len(counts), seed),
        required=min_f1,
        images=len(counts),
        boxes=boxes,
        score=score,
        score_int8=_score_of_as_many(int8_found, boxes) if boxes else None,
        precision=float(right / found) if found else None,
        recall=float(right / wanted) if wanted else None,
        tight=agreement.tight,
    )


def _score_of_as_many(found: Sequence[Detections], boxes: int) -> float | None:
    """Return the threshold at which there are as many boxes as the float model finds.

    Extra boxes then balance missed ones: against the float model's, precision equals recall. It lies halfway between
    two scores; None where there are too few boxes.
    """
    scores = np.sort(joined([one.scores for one in found]))[::-1].astype(np.float64)
    if len(scores) < boxes:
        return None
    return float((scores[boxes - 1] + scores[boxes]) / 2) if len(scores) > boxes else float(scores[-1])


# --- with labels ------------------------------------------------------------------------------------------------


def compare_on_labels(
    images: Sequence[LabelledImage],
    float_found: Sequence[Detections],
    int8_runs: Sequence[Sequence[Detections]],
    class_map: Sequence[int],
    score: float = DEFAULT_SCORE,
    seed: int = 0,
    max_drop_percent: float = MAX_DROP_PERCENT,
) -> GateReport:
    """Judge both models' detections, above LABELS_SCORE_FLOOR, by the labels of the same images.

    int8_runs: what the INT8 file found in each of several runs over the images, each changed a little (``changes``):
               its AP is the mean. Other figures are the first run's.
    class_map: the model's class id for each class of the labels, -1 for labels to leave out (``match_classes``).
    Raises InputError where the drop allowed is no percentage.
    """
    if not 0.0 <= max_drop_percent < 100.0:
        raise InputError(f"the drop of AP that is allowed lies between 0 and 100 percent; got {max_drop_percent}.")
    wanted = Judged.of(images, float_found, class_map)
    runs = [Judged.of(images, found, class_map) for found in int8_runs]
    got = runs[0]
    everything = np.ones(len(images))
    boxes = int(wanted.truths.sum())
    ap_float, ap_int8 = wanted.average_precision(everything), mean_ap(runs, everything)

    def kept(weights: np.ndarray) -> float | None:
        before, after = wanted.average_precision(weights), mean_ap(runs, weights)
        return after / before if before and after is not None else None

    reason = ""
    if boxes < MIN_BOXES:
        reason = f"{boxes} labelled boxes, {MIN_BOXES} are needed: give more labelled images"
    elif not ap_float:
        reason = "the float model's own AP is 0"
    required = 1.0 - max_drop_percent / 100.0
    value = kept(everything)
    right, found = got.at_score(score)
    return GateReport(
        verdict=_verdict(reason, value, required),
        reason=reason,
        figure="share of float AP",
        value=value,
        low=low_percentile(kept, len(images), seed),
        required=required,
        images=len(images),
        boxes=boxes,
        score=score,
        score_int8=got.score_of_precision(*wanted.at_score(score)),
        precision=right / found if found else None,
        recall=right / boxes if boxes else None,
        ap_float=ap_float,
        ap_int8=ap_int8,
    )


# --- shared -----------------------------------------------------------------------------------------------------


def _verdict(reason: str, value: float | None, required: float) -> str:
    if reason:
        return UNVERIFIED
    return PASSED if value is not None and value >= required else FAILED


def mean_ap(runs: Sequence[Judged], weights: np.ndarray) -> float | None:
    """Return the mean AP of several runs over the same images; None without labels."""
    values = [value for run in runs if (value := run.average_precision(weights)) is not None]
    return float(np.mean(values)) if values else None


def low_percentile(
    figure: Callable[[np.ndarray], float | None], images: int, seed: int, resamples: int = RESAMPLES
) -> float | None:
    """Return the figure's LOW_PERCENTILE over draws of as many images, with replacement.

    ``figure`` is given how often each image was drawn: the same for both models, which makes the comparison paired.
    """
    if not images:
        return None
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1.0 / images), size=resamples)
    values = [value for value in map(figure, draws.astype(np.float64)) if value is not None and math.isfinite(value)]
    return float(np.percentile(values, LOW_PERCENTILE)) if values else None
