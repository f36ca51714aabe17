"""Whether an INT8 model may take the float model's place: the verdict, and what it is without labels.

Without labels the figure is the share of AP that is kept on the float model's own detections (``pseudo_labels``), with
labels the share of the float model's AP (``verdict_on_labels``). The limit without labels was chosen on the files of a
study; docs/int8.md has the table, and says where verdict and labels disagree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...postprocess import DEFAULT_SCORE
from ...types import Detections
from ..agreement import compare_detections, keep_above
from ..matching import concatenate
from .pseudo_labels import PseudoLabels

PASSED, FAILED, UNSURE = "PASSED", "FAILED", "UNSURE"
SHARE_WITHOUT_LABELS, SHARE_ON_LABELS = "AP kept on the float model's detections", "share of float AP"  # figures

MIN_KEPT = 0.95  # of the AP that the float model reaches on pseudo-labels (docs/int8.md)
MIN_BOXES = 50  # labels; with fewer, one box is more than 2 % and a verdict would be chance
SURE = 1.0  # standard errors by which the figure must be off the limit
FEW_RESAMPLES = 50  # of images
LOW_PERCENTILE = 5.0
MOST_FRAMES = 1000  # that a remedy asks for; beyond that, labels tell more
LEAST_PICTURES, MOST_PICTURES = 20, 40  # that a remedy asks labels for


@dataclass(frozen=True)
class Verdict:
    """The verdict on an INT8 file, for printing and for the file's metadata.

    verdict:    PASSED, FAILED or UNSURE.
    reason:     why it is UNSURE, else "".
    remedy:     what would make it sure, in numbers; "" where it is sure.
    figure:     what ``value`` is: "AP kept on the float model's detections" or "share of float AP".
    value:      of the figure; 1.0 keeps all. None where it is undefined.
    low:        the figure's 5th percentile over resampled images (bootstrap, Efron 1979); None where it is undefined.
    required:   the least value that passes.
    images:     number of pictures.
    boxes:      number of labels in them, or of pseudo-labels.
    score:      the user's threshold.
    score_int8: threshold for the INT8 file that keeps the float model's precision, or, without labels, that gives as
                many boxes (its precision and recall are then equal); None where nothing tells.
    precision:  of the INT8 file at ``score``, against the labels or the float model's detections; None without boxes.
    recall:     likewise.
    f1, tight:  without labels only: F1 against the float model's detections at ``score``, at IoU 0.5 and 0.85.
    ap_float:   with labels only, COCO's AP.
    ap_int8:    with labels only.
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
    remedy: str = ""
    score_int8: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
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
        if self.f1 is not None:
            parts.append(f"F1 {self.f1:.3f}")
        if self.low is not None:
            parts.append(f"5th percentile {self.low:.4f}")
        parts.append(f"{self.boxes} boxes in {self.images} images")
        if self.score_int8 is not None:
            effect = (
                "keeps the float model's precision" if self.ap_float is not None else "finds as many boxes as float"
            )
            parts.append(f"score {self.score_int8:.3f} {effect} at {self.score:g}")
        reason = f" ({self.reason}; {self.remedy})" if self.reason else ""
        return f"{self.verdict}{reason}: {'; '.join(parts)}"


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def verdict_without_labels(
    labels: PseudoLabels,
    float_detections: Sequence[Detections],
    int8_detections: Sequence[Detections],
    score: float = DEFAULT_SCORE,
    seed: int = 0,
) -> Verdict:
    """Judge what an INT8 file detects by what the float model does, frame by frame.

    labels: of the same frames. Detections reach down to ``score`` x FLOOR_SHARE.
    """
    reference = [keep_above(detections, score) for detections in float_detections]
    agreement = compare_detections([keep_above(detections, score) for detections in int8_detections], reference)
    tp, positives, expected = agreement.counts.sum(0)
    images, required = len(reference), MIN_KEPT
    kept = labels.kept_by(int8_detections)
    value = _finite(kept(np.ones(images)))
    draws = resample(kept, images, seed, FEW_RESAMPLES)
    error = float(np.std(draws)) if draws else math.inf
    reason, remedy = _doubt_of_objects(labels.count, images)
    if not reason and len({detections.scores.tobytes() for detections in reference}) == 1 < images:
        reason = "the float model detects the same in every frame: it does not look at the picture"
        remedy = "check the checkpoint"
    elif not reason and value is not None and abs(value - required) < SURE * error:
        reason = f"{value:.3f} is too near {required:g} for {images} frames: it may be {error:.3f} more or less"
        remedy = _more_frames(abs(value - required), error, images, labels.count)
    boxes = len(concatenate([detections.scores for detections in reference]))
    return Verdict(
        verdict=decide(reason, value, required),
        reason=reason,
        remedy=remedy,
        figure=SHARE_WITHOUT_LABELS,
        value=value,
        low=float(np.percentile(draws, LOW_PERCENTILE)) if draws else None,
        required=required,
        images=images,
        boxes=labels.count,
        score=score,
        score_int8=_score_of_as_many(int8_detections, boxes) if boxes else None,
        precision=float(tp / positives) if positives else None,
        recall=float(tp / expected) if expected else None,
        f1=agreement.f1,
        tight=agreement.tight,
    )


def foresee_without_labels(objects: int, images: int, score: float) -> Verdict | None:
    """Return the verdict of every file where it is UNSURE whatever the file detects; None elsewhere.

    objects: that the float model detects in the frames, as PseudoLabels counts them.
    """
    reason, remedy = _doubt_of_objects(objects, images)
    if not reason:
        return None
    return Verdict(UNSURE, reason, SHARE_WITHOUT_LABELS, None, None, MIN_KEPT, images, objects, score, remedy)


def _doubt_of_objects(objects: int, images: int) -> tuple[str, str]:
    """Return reason and remedy where so few objects tell nothing."""
    if not images:
        return "no frame is left to judge on", "give some 128 frames (--calib), or labelled pictures (--data)"
    if objects >= MIN_BOXES:
        return "", ""
    reason = f"the float model detects {objects} objects in {images} frames, {MIN_BOXES} are needed"
    if not objects:
        return reason, "give frames that show objects (--calib), or a lower --score"
    more = math.ceil(images * (MIN_BOXES / objects - 1.0))
    return reason, f"give about {more} more frames like these, or a lower --score"


def _more_frames(distance: float, error: float, images: int, objects: int) -> str:
    """Errors shrink with the root of the number of frames."""
    frames = images * ((SURE * error / max(distance, 1e-9)) ** 2 - 1.0)
    pictures = min(max(math.ceil(2 * MIN_BOXES * images / objects), LEAST_PICTURES), MOST_PICTURES)
    labels = f"labels for {pictures} pictures (edgedet label makes them, --data takes them)"
    return labels if frames > MOST_FRAMES else f"give about {math.ceil(frames)} more frames, or {labels}"


def _score_of_as_many(detections: Sequence[Detections], boxes: int) -> float | None:
    """Return the threshold at which there are as many boxes as the float model finds.

    Extra boxes then balance missed ones: against the float model's, precision equals recall. It lies halfway between
    two scores; None where there are too few boxes.
    """
    scores = np.sort(concatenate([frame.scores for frame in detections]))[::-1].astype(np.float64)
    if len(scores) < boxes:
        return None
    return float((scores[boxes - 1] + scores[boxes]) / 2) if len(scores) > boxes else float(scores[-1])


def decide(reason: str, value: float | None, required: float) -> str:
    """Return the verdict: UNSURE where there is a reason for it, else by the limit."""
    if reason:
        return UNSURE
    return PASSED if value is not None and value >= required else FAILED


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def resample(figure: Callable[[np.ndarray], float | None], images: int, seed: int, resamples: int) -> list[float]:
    """Return the figure of each random draw of as many images, with replacement (bootstrap, Efron 1979), if defined.

    ``figure`` is given how often each image was drawn.
    """
    if not images:
        return []
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1.0 / images), size=resamples)
    return [value for weights in draws.astype(np.float64) if (value := _finite(figure(weights))) is not None]
