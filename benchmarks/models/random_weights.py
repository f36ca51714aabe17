"""Networks that learned nothing but compute as trained ones do: for tests and for measuring cost without weights.

Needs PyTorch. BatchNorm statistics lie around those that a random picture causes, so that values neither die out (tiny
floats cost a CPU many times what others do) nor grow, and no part passes as the identity.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import cast

import torch
from torch import Tensor, nn

from edgedet import demo
from edgedet.export.checkpoints.checkpoint import Checkpoint
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.export.verify import network_input
from edgedet.preprocess import Preprocessor
from edgedet.specs import DetectorSpec

GAIN = 0.2  # of BatchNorms; larger ones let float32 rounding grow from layer to layer in the deepest models
# On photographs D6's float32 outputs differ from float64's by 8e-6 with 0.2, by 1.7e-6 with this (640 x 640).
PHOTO_GAIN = 0.1
FEW_CELLS = 24  # maps this small say little of their variance; too small a one would amplify every other picture
# Logits of a trained network's empty background lie around the bias that its training began with (arXiv 1708.02002,
# section 3.3). With the deviation of 1 about one logit in 75,000 is a candidate at score 0.4: some 60 in D0.
PRIOR = 0.01
LOGIT_DEVIATION = 1.0


def randomise(
    network: nn.Module, input_hw: tuple[int, int], seed: int, picture: Tensor | None = None, gain: float = GAIN
) -> None:
    """Give BatchNorms, fusion weights and predictions random values, so that no part passes as the identity.

    picture: (1, 3, H, W) normalised RGB that the statistics lie around; None takes noise.
    gain: of BatchNorms; the larger, the more rounding grows from layer to layer.
    With fully random statistics a network either forgets its picture or is so badly conditioned that float32 says
    nothing (effdet's own D6 then differs from itself in float64 by 8 %). A test holds that they do neither.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    def set_statistics_near_inputs(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        x = inputs[0]
        variance = x.var((0, 2, 3), correction=0)
        variance = variance.clamp_min(1.0 if x[0, 0].numel() < FEW_CELLS else 0.3 * float(variance.mean()) + 1e-4)
        cast(Tensor, norm.running_mean).copy_(x.mean((0, 2, 3)) + uniform(variance, -0.3, 0.3) * variance.sqrt())
        cast(Tensor, norm.running_var).copy_(variance * uniform(variance, 0.7, 1.4))
        norm.weight.copy_(uniform(variance, 0.7, 1.3) * gain)
        norm.bias.copy_(uniform(variance, -0.5, 0.5))

    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(set_statistics_near_inputs))
        if getattr(module, "edge_weights", None) is not None:
            module.edge_weights.data.copy_(uniform(module.edge_weights, 0.2, 2.0))
        if name.endswith("predict"):
            module.conv_pw.weight.data.copy_(uniform(module.conv_pw.weight, -1.0, 1.0))
            module.conv_pw.bias.data.copy_(uniform(module.conv_pw.bias, -0.1, 0.1))
    with torch.no_grad():
        network(torch.randn(1, 3, *input_hw, generator=generator) if picture is None else picture)
    for hook in hooks:
        hook.remove()


def random_checkpoint(spec: DetectorSpec, seed: int = 0) -> Checkpoint:
    """Return random weights whose class logits are spread as a trained network's are, so that NMS has usual work.

    The checkpoint's sha256 is of a text that says so; the same spec and seed give the same weights.
    """
    torch.manual_seed(seed)
    network = EfficientDet(spec).eval()
    (frame,) = demo.clip_frames(1)
    picture = network_input(Preprocessor(spec)(frame).pixels, spec)
    randomise(network, spec.input_hw, seed, picture, PHOTO_GAIN)
    with torch.no_grad():
        logits, codes = network(picture)
        for head, out, deviation, centre in (
            (network.class_net, logits, LOGIT_DEVIATION, math.log(PRIOR / (1 - PRIOR))),
            (network.box_net, codes, 0.1, 0.0),  # boxes stay near their anchors
        ):
            predict, bias = head.predict.conv_pw, cast(Tensor, head.predict.conv_pw.bias)
            predict.weight.mul_(deviation / float(out.std()))
            mean = float(out.mean()) - float(bias.mean())
            bias.fill_(centre - mean * deviation / float(out.std()))
    text = json.dumps({"random weights": seed, "spec": spec.to_dict()}, sort_keys=True)
    return Checkpoint(
        dict(network.state_dict()),
        spec,
        tuple(f"class_{index}" for index in range(spec.num_classes)),
        hashlib.sha256(text.encode()).hexdigest(),
        (f"random weights, seed {seed}",),
    )
