"""Networks and effdet twins with random weights and random BatchNorm statistics, for tests."""

from __future__ import annotations

from typing import Any

import torch
from effdet_oracle import import_effdet

from edgedet.benchmarks.random_weights import randomise
from edgedet.export.network import EfficientDet, flat_outputs
from edgedet.specs import DetectorSpec


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
