"""Take the mean error of the sizes of an INT8 model's boxes out of its last biases.

Ranges that clip, and maps that are rounded level by level, make nearly all boxes a little larger or smaller. Boxes that
all grow by 2 % cost more AP than all other errors of INT8 together (docs/int8.md). So the file is run on calibration
frames by its own engine, its detections are paired with the float model's, and the mean ratio of their sides goes into
the biases of the box head's last convolutions: bias correction (Nagel et al., arXiv 1906.04721 section 4.2), at the
outputs only, where the errors of rounded activations show, too.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.placement.plan import QuantisedConv
from edgedet.calibration.quantise import Quantised
from edgedet.calibration.ranges.frames import thin_out
from edgedet.export.int8.files import Form
from edgedet.export.int8.workers import FrameDetector, OpenDetector
from edgedet.judge.agreement import compute_iou
from edgedet.judge.gate.pseudo_labels import SAME_IOU
from edgedet.types import Detections, ModelInput

BOXES = "box_net.predict.conv_pw"
MOST_FRAMES = 32
FLOOR = 0.05  # detections that score less are not looked at
LEAST_SCORE = 0.15  # of a pair, in the mean of both: well above FLOOR, so that lower scores of one side stay in view
LEAST_PAIRS = 20
KNOWN = (
    3.0  # standard errors from 0 beyond which a mean is no chance; boxes of one frame err alike, which they leave out
)


@dataclass(frozen=True)
class SizeErrors:
    """Natural logarithms of the mean ratio of the boxes' sides to the float model's, above 0 where they are larger.

    width, height:  the means.
    width_se, height_se: their standard errors.
    pairs: number of pairs of detections.
    """

    width: float
    height: float
    width_se: float
    height_se: float
    pairs: int

    def correction(self) -> tuple[float, float]:
        """Return what to take off ln width and ln height: the means that are known, else 0."""
        known = self.pairs >= LEAST_PAIRS
        width, height = (
            mean if known and abs(mean) > KNOWN * error else 0.0
            for mean, error in ((self.width, self.width_se), (self.height, self.height_se))
        )
        return width, height

    def line(self) -> str:
        """Return the errors, and what is corrected, in one line."""
        if self.pairs < LEAST_PAIRS:
            return (
                f"the sizes of boxes stay as they are, because there are {self.pairs} boxes to compare and "
                f"{LEAST_PAIRS} are needed"
            )
        parts = [
            f"{100.0 * math.expm1(mean):+.1f} % {name} ({'corrected' if taken else 'may be chance, so not corrected'})"
            for name, mean, taken in zip(("wide", "high"), (self.width, self.height), self.correction(), strict=True)
        ]
        return f"boxes are {' and '.join(parts)} against the float model's, in the mean of {self.pairs}"


class Centring:
    """The float model's boxes in calibration frames, and the correction of INT8 models by them."""

    def __init__(
        self,
        float_detector: FrameDetector,
        meta: ArtifactMeta,
        frames: Sequence[ModelInput],
        open_detector: OpenDetector,
    ) -> None:
        """``frames`` are calibration frames, of which MOST_FRAMES are used; ``meta`` is the float model's."""
        self._meta, self._frames, self._open_detector = meta, thin_out(frames, MOST_FRAMES), open_detector
        self._float_detector = float_detector
        self._reference: list[Detections] | None = None

    def centre(self, quantised: Quantised, form: Form) -> tuple[Quantised, SizeErrors]:
        """Return the model with the mean error taken out in the placement of ``form``, and what it was.

        The model stays as it is where the frames do not tell the error from chance, and so do heads that are float.
        """
        errors = self.errors(quantised, form)
        if not any(errors.correction()):
            return quantised, errors
        plan = quantised.dense if form.placement == "dense" else quantised.sparse
        convs = {name: _corrected(name, q, errors) for name, q in plan.convs.items()}
        if form.placement == "dense":
            return replace(quantised, dense=replace(quantised.dense, convs=convs)), errors
        return replace(quantised, sparse=replace(quantised.sparse, convs=convs)), errors

    def errors(self, quantised: Quantised, form: Form) -> SizeErrors:
        """Write a file of this form, run it on the frames by its own engine and return its error."""
        if self._reference is None:
            self._reference = self._float_detector.detect(self._frames, FLOOR)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"centred{form.suffix}"
            form.write(quantised, replace(self._meta, precision="int8", report={}), path)
            with closing(self._open_detector(path)) as detector:
                detections = detector.detect(self._frames, FLOOR)
        return measure_size_errors(detections, self._reference)


def measure_size_errors(detections: Sequence[Detections], reference: Sequence[Detections]) -> SizeErrors:
    """Return how much larger detections are than the reference's, frame by frame.

    A pair are two detections of a class that overlap each other most, and by SAME_IOU. Each counts by the square of
    its mean score: weak detections are no objects, as a rule. Neither side alone decides which pairs count, because
    what is chosen for a high score of its own has a lower one on the other side by chance.
    """
    rows, weights = [np.zeros((0, 2))], [np.zeros(0)]
    for ours, theirs in zip(detections, reference, strict=True):
        if not len(ours) or not len(theirs):
            continue
        overlap = compute_iou(ours.boxes_xyxy, theirs.boxes_xyxy)
        overlap[ours.class_ids[:, None] != theirs.class_ids[None]] = 0.0
        best = overlap.argmax(1)
        at = np.arange(len(ours))
        mean = (ours.scores.astype(np.float64) + theirs.scores[best]) / 2
        paired = (overlap[at, best] >= SAME_IOU) & (overlap.argmax(0)[best] == at) & (mean >= LEAST_SCORE)
        sides = [boxes[:, 2:] - boxes[:, :2] for boxes in (ours.boxes_xyxy[paired], theirs.boxes_xyxy[best[paired]])]
        rows.append(np.log(np.maximum(sides[0], 1e-3) / np.maximum(sides[1], 1e-3)))
        weights.append(mean[paired] ** 2)
    joined, weight = np.concatenate(rows), np.concatenate(weights)
    if not len(joined):
        return SizeErrors(0.0, 0.0, 0.0, 0.0, 0)
    width, height = mean = weight @ joined / weight.sum()
    width_se, height_se = np.sqrt(weight**2 @ (joined - mean) ** 2) / weight.sum()
    return SizeErrors(float(width), float(height), float(width_se), float(height_se), len(joined))


def _corrected(name: str, q: QuantisedConv, errors: SizeErrors) -> QuantisedConv:
    """Return a convolution with the errors taken out of its bias, where it makes boxes."""
    if not name.startswith(BOXES):
        return q
    bias = np.zeros(len(q.scales), np.float32) if q.bias is None else q.bias.copy()
    width, height = errors.correction()
    codes = bias.reshape(-1, 4)  # of each anchor: y, x, ln height, ln width
    codes[:, 2] -= np.float32(height)
    codes[:, 3] -= np.float32(width)
    return replace(q, bias=bias)
