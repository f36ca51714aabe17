"""Measure how much accuracy each layer costs when it alone is INT8.

A layer is a convolution with the element-wise operators behind it. With one layer in INT8 and all others in float, the
signal-to-quantisation-noise ratio (SQNR) at the network's outputs says what that layer alone costs. Only the operators
behind the layer are computed again. The worst layers are then compared by their detections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import Tensor

from edgedet.anchors import anchors_for
from edgedet.artifact import ArtifactMeta
from edgedet.calibration.graph.executor import OUTPUTS, Executor, compute, dequantise
from edgedet.calibration.placement.plan import CENTRED, SAME_SCALE, DensePlan, choose_centre
from edgedet.calibration.ranges.choose import LOWEST_LOGIT, fake_quantise
from edgedet.judge.agreement import compute_f1, count_matches
from edgedet.postprocess import postprocess
from edgedet.progress import with_progress
from edgedet.types import Detections, ModelInput, RawOutputs

NOISELESS_DB = 200.0  # in place of infinity, where rounding changes nothing at the outputs


@dataclass(frozen=True)
class LayerLoss:
    """The cost of one layer when it alone is INT8.

    layer:     name of its convolution.
    sqnr_db:   signal to noise at the outputs in dB, the lower one of class logits and box codes; lower is worse.
    macs:      share of the network's multiply-accumulates.
    f1:        F1 of the detections against the float model's; None where it was not measured.
    """

    layer: str
    sqnr_db: float
    macs: float
    f1: float | None = None


@dataclass
class _Power:
    signal: float = 0.0
    noise: float = 0.0

    def add(self, reference: Tensor, actual: Tensor) -> None:
        self.signal += float(reference.double().square().sum())
        self.noise += float((actual.double() - reference.double()).square().sum())

    def sqnr_db(self) -> float:
        if not self.noise:
            return NOISELESS_DB
        return min(NOISELESS_DB, 10.0 * float(np.log10(max(self.signal, 1e-300) / self.noise)))


class LayerQuantiser:
    """A float graph whose layers can be rounded one at a time."""

    def __init__(self, model: onnx.ModelProto, meta: ArtifactMeta, plan: DensePlan) -> None:
        """``plan`` belongs to ``model`` (``Quantised.dense`` and ``model``); ``meta`` says how outputs become boxes."""
        self._executor, self._plan, self._meta = Executor(model), plan, meta
        self._anchors_yxyx = anchors_for(meta.spec)
        self.tensors = _find_tensors_of_layers(self._executor.nodes, plan)
        mean_bgr = (
            self._executor.constants["mean_bgr"].reshape(-1, 3)[0].reshape(1, 3, 1, 1)
        )  # every column's is the same
        self._shift = mean_bgr - choose_centre(meta.spec)  # the dense stem counts bytes from its centre
        self._convs = {node.name: (node, a) for node, a in self._executor.steps() if node.op_type == "Conv"}
        self._stem = next(iter(self._convs))

    def float_values(self, pixels: np.ndarray) -> dict[str, Tensor]:
        """Return every value of the float graph for (1, H, W, 3) uint8 pixels."""
        return self._executor.values(pixels)

    @torch.inference_mode()
    def run_with_layer(self, layer: str, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return class logits and box codes with one layer in INT8; ``values`` are ``float_values``'."""
        node, attributes = self._convs[layer]
        data = values[node.input[0]] + (self._shift if layer == self._stem else 0.0)
        conv = compute(node, [data, *dequantise(self._plan.convs[layer])], attributes)
        tensors = self.tensors[layer]

        def round_value(node: onnx.NodeProto, value: Tensor) -> Tensor:
            name = node.output[0]
            return fake_quantise(value, self._plan.tensors[name]) if name in tensors else value

        return self._executor.outputs_after(values, {node.output[0]: round_value(node, conv)}, round_value)

    def detect(self, outputs: tuple[Tensor, Tensor], frame: ModelInput, score: float) -> Detections:
        """Return the detections of class logits and box codes."""
        logits, codes = outputs
        raw = RawOutputs(logits[0].numpy(), codes[0].numpy())
        return postprocess(
            raw,
            self._anchors_yxyx,
            frame.scale_to_source,
            frame.source_hw,
            score=score,
            rules=self._meta.nms,
            input_hw=self._meta.spec.input_hw,
        )


def _find_tensors_of_layers(nodes: Sequence[onnx.NodeProto], plan: DensePlan) -> dict[str, set[str]]:
    """Return for each convolution the tensors that are rounded with it: its output and those computed from it alone."""
    owner: dict[str, str] = {}
    tensors: dict[str, set[str]] = {}
    for node in nodes:
        name = node.output[0]
        if node.op_type == "Conv":
            owner[name] = node.name
            tensors[node.name] = set()
        else:
            owners = [owner[read] for read in node.input if read in owner]
            if not owners:
                continue
            owner[name] = owners[-1]  # of a sum, the later one
        if name in plan.tensors and name != CENTRED and node.op_type not in SAME_SCALE:
            tensors[owner[name]].add(name)
    return tensors


def measure_layer_losses(
    layers: LayerQuantiser, frames: Iterable[ModelInput], mac_shares: Mapping[str, float]
) -> list[LayerLoss]:
    """Measure every layer's loss on the frames; return the losses, the worst first.

    Logits count from logit(0.01) on, where detections begin; box codes count at anchors whose logits reach it.
    """
    powers = {layer: (_Power(), _Power()) for layer in layers.tensors}
    for frame in frames:
        values = layers.float_values(frame.pixels)
        logits, codes = (values[name] for name in OUTPUTS)
        detecting = (logits > LOWEST_LOGIT).any(-1)
        reference = logits.clamp_min(LOWEST_LOGIT) - LOWEST_LOGIT
        for layer in with_progress(list(powers), "layers of a frame", "layer"):
            new_logits, new_codes = layers.run_with_layer(layer, values)
            of_logits, of_codes = powers[layer]
            of_logits.add(reference, new_logits.clamp_min(LOWEST_LOGIT) - LOWEST_LOGIT)
            of_codes.add(codes[detecting], new_codes[detecting])
    losses = [
        LayerLoss(layer, min(power.sqnr_db() for power in both), mac_shares[layer]) for layer, both in powers.items()
    ]
    return sorted(losses, key=lambda loss: loss.sqnr_db)


def verify_on_detections(
    layers: LayerQuantiser, frames: Iterable[ModelInput], losses: Sequence[LayerLoss], score: float
) -> list[LayerLoss]:
    """Return the losses with F1: that of the detections with the layer alone in INT8 against the float model's."""
    counts = {loss.layer: np.zeros(3) for loss in losses}
    for frame in with_progress(frames, "verifying", "frame"):
        values = layers.float_values(frame.pixels)
        reference = layers.detect((values[OUTPUTS[0]], values[OUTPUTS[1]]), frame, score)
        for layer, sums in counts.items():
            detections = layers.detect(layers.run_with_layer(layer, values), frame, score)
            sums += count_matches(detections, reference)
    return [LayerLoss(loss.layer, loss.sqnr_db, loss.macs, compute_f1(counts[loss.layer])) for loss in losses]
