"""Put the fewest layers of an INT8 model back to float with which it passes on the select frames."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.graph.macs import count_conv_macs
from edgedet.calibration.quantise import Quantised, compute_int8_mac_share
from edgedet.calibration.recovery.revert import exclude_layers, find_fewest_layers
from edgedet.calibration.recovery.sensitivity import LayerQuantiser, measure_layer_losses
from edgedet.export.int8.files import Form
from edgedet.export.int8.workers import FrameDetector, OpenDetector
from edgedet.judge.gate.reference import FloatReference
from edgedet.judge.gate.verdict import MIN_BOXES, MIN_KEPT, Verdict
from edgedet.progress import Say
from edgedet.types import ModelInput

MOST = 16  # layers put back at most, by default
MARGIN = 0.01  # so much more of the AP must be kept than the gate requires, whose frames are others
PASSES = 2  # number of frames on which every layer's loss is measured


class Selector:
    """Judges files on the select frames, which neither calibration nor the gate uses."""

    def __init__(
        self,
        float_detector: FrameDetector,
        meta: ArtifactMeta,
        frames: Sequence[ModelInput],
        score: float,
        open_detector: OpenDetector,
    ) -> None:
        """``frames`` are the select frames; ``score`` is the threshold from which detections count."""
        self._meta, self._frames, self._open_detector = meta, frames, open_detector
        self._reference = FloatReference(float_detector.detect, frames, score)
        self._order: list[str] | None = None

    def verdict(self, quantised: Quantised, form: Form) -> Verdict:
        """Return the verdict on a file of this form."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"selected{form.suffix}"
            form.write(quantised, replace(self._meta, precision="int8", report={}), path)
            with closing(self._open_detector(path)) as detector:
                return self._reference.judge(detector.detect)

    def order(self, quantised: Quantised) -> list[str]:
        """Return the layers, sorted by what each costs alone, the most first; this takes a minute for D0."""
        if self._order is None:
            macs = count_conv_macs(quantised.model)
            shares = {layer: count / sum(macs.values()) for layer, count in macs.items()}
            layers = LayerQuantiser(quantised.model, self._meta, quantised.dense)
            step = max(1, len(self._frames) // PASSES)
            losses = measure_layer_losses(layers, self._frames[::step][:PASSES], shares)
            stem = next(iter(macs))
            self._order = [loss.layer for loss in losses if loss.layer != stem]
        return self._order


def revert_layers(
    quantised: Quantised, form: Form, selector: Selector, most: int, say: Say
) -> tuple[Quantised, list[str]]:
    """Put as few layers back to float as the file needs to pass on the select frames; return the model and the layers.

    most: at most so many layers are put back.
    say:  called with a line on what was done and why.
    Nothing is put back where the file passes as it is, where the select frames hold too few boxes, and where ``most``
    layers are not enough.
    """
    before, suffix = selector.verdict(quantised, form), form.suffix
    if before.boxes < MIN_BOXES:
        say(
            f"{suffix}: no layer is put back to float, because the select frames hold {before.boxes} boxes and "
            f"{MIN_BOXES} are needed"
        )
        return quantised, []
    required = MIN_KEPT + MARGIN
    if before.value is None or before.value >= required or not most:
        return quantised, []
    convs = (quantised.dense if form.placement == "dense" else quantised.sparse).convs
    say(
        f"{suffix}: it keeps {before.value:.3f} of AP on the select frames, and {required:g} is required, "
        "so layers to put back to float are looked for"
    )
    order = [layer for layer in selector.order(quantised) if layer in convs][:most]

    def model_without(layers: Sequence[str]) -> Quantised:
        dense, sparse = exclude_layers(quantised.model, quantised.dense, quantised.sparse, layers)
        shares = {
            "dense": compute_int8_mac_share(quantised.model, dense),
            "sparse": compute_int8_mac_share(quantised.model, sparse),
        }
        return replace(quantised, dense=dense, sparse=sparse, mac_shares=shares)

    def value_of(layers: Sequence[str]) -> float:
        return selector.verdict(model_without(layers), form).value or 0.0

    chosen = find_fewest_layers(order, value_of, required)
    if chosen is None:
        say(f"{suffix}: it falls short even with the {len(order)} worst layers in float, so all stay INT8")
        return quantised, []
    layers, value = chosen
    result = model_without(layers)
    say(
        f"{suffix}: {', '.join(layers)} go back to float; it keeps {value:.3f} of AP on the select frames, and "
        f"{100 * result.mac_shares[form.placement]:.1f} % of the MACs stay INT8"
    )
    return result, layers
