"""Networks and effdet twins with random weights and random BatchNorm statistics, for tests."""

from __future__ import annotations

from typing import Any

import torch
from effdet_oracle import import_effdet
from torch import nn

from edgedet.export.network import EfficientDet, flat_outputs
from edgedet.specs import DetectorSpec

GAIN = 0.2  # of BatchNorms; larger ones let float32 rounding grow from layer to layer in the deepest models
FEW_CELLS = 24  # maps this small say little of their variance; too small a one would amplify every other picture


def randomise(network: nn.Module, input_hw: tuple[int, int], seed: int) -> None:
    """Give BatchNorms, fusion weights and predictions random values, so that no part passes as the identity.

    Statistics lie around those that a random picture causes. With fully random ones a network either forgets its
    picture or is so badly conditioned that float32 says nothing (effdet's own D6 then differs from itself in float64 by
    8 %). ``test_random_networks_depend_on_their_picture`` holds that they do neither.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    def around_what_comes(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        x = inputs[0]
        variance = x.var((0, 2, 3), correction=0)
        variance = variance.clamp_min(1.0 if x[0, 0].numel() < FEW_CELLS else 0.3 * float(variance.mean()) + 1e-4)
        norm.running_mean.copy_(x.mean((0, 2, 3)) + uniform(variance, -0.3, 0.3) * variance.sqrt())
        norm.running_var.copy_(variance * uniform(variance, 0.7, 1.4))
        norm.weight.copy_(uniform(variance, 0.7, 1.3) * GAIN)
        norm.bias.copy_(uniform(variance, -0.5, 0.5))

    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(around_what_comes))
        if getattr(module, "edge_weights", None) is not None:
            module.edge_weights.data.copy_(uniform(module.edge_weights, 0.2, 2.0))
        if name.endswith("predict"):
            module.conv_pw.weight.data.copy_(uniform(module.conv_pw.weight, -1.0, 1.0))
            module.conv_pw.bias.data.copy_(uniform(module.conv_pw.bias, -0.1, 0.1))
    with torch.no_grad():
        network(torch.randn(1, 3, *input_hw, generator=generator))
    for hook in hooks:
        hook.remove()


def effdet_model(spec: DetectorSpec, seed: int = 0) -> Any:
    """Return effdet's own network of the same name, class count and input size, randomised, in eval mode."""
    effdet = import_effdet()
    config = effdet.get_efficientdet_config(spec.name)
    config.image_size, config.num_classes = spec.input_hw, spec.num_classes
    torch.manual_seed(seed)
    model = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    randomise(model, spec.input_hw, seed)
    return model


def effdet_outputs(model: Any, x: torch.Tensor, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return effdet's outputs flattened as ours: (N, A, C) and (N, A, 4)."""
    class_levels, box_levels = model(x)
    return flat_outputs(class_levels, num_classes), flat_outputs(box_levels, 4)


def random_network(spec: DetectorSpec, seed: int = 0) -> EfficientDet:
    """Return our network, randomised, in eval mode."""
    torch.manual_seed(seed)
    network = EfficientDet(spec).eval()
    randomise(network, spec.input_hw, seed)
    return network


def relative_error(got: Any, wanted: Any) -> float:
    """Largest difference as a share of the largest magnitude."""
    got, wanted = torch.as_tensor(got).double(), torch.as_tensor(wanted).double()
    return float((got - wanted).abs().max() / wanted.abs().max())
