"""Networks and effdet twins with random weights and random BatchNorm statistics, for tests."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from effdet_oracle import import_effdet

from edgedet.artifact import ArtifactMeta
from edgedet.benchmarks.models.random_weights import randomise
from edgedet.export.fusion.fuse import graph_from_network
from edgedet.export.network.efficientdet import EfficientDet, flat_outputs
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
    """Return our network, randomised, in eval mode; the caller's own, made once in a process and copied."""
    return copy.deepcopy(_random_network(spec, seed))


@functools.lru_cache(maxsize=4)
def _random_network(spec: DetectorSpec, seed: int) -> EfficientDet:
    torch.manual_seed(seed)
    network = EfficientDet(spec).eval()
    randomise(network, spec.input_hw, seed)
    return network


def relative_error(got: Any, expected: Any) -> float:
    """Largest difference as a share of the largest magnitude."""
    got, expected = torch.as_tensor(got).double(), torch.as_tensor(expected).double()
    return float((got - expected).abs().max() / expected.abs().max())


def run_onnx(network: EfficientDet, pixels: np.ndarray) -> list[np.ndarray]:
    """Run the fused graph on one thread."""
    spec = network.spec
    meta = ArtifactMeta(spec, tuple(f"class_{i}" for i in range(spec.num_classes)), "fp32", "")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = graph_from_network(network, meta).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pixels})


def random_pixels(spec: DetectorSpec, seed: int = 1) -> np.ndarray:
    """Return noise, (1, H, W, 3) uint8, in the size of the model's input."""
    return np.random.default_rng(seed).integers(0, 256, (1, *spec.input_hw, 3), dtype=np.uint8)


def saved(state: dict, path: Path) -> None:
    """Write a state dict as torch.save does."""
    torch.save(state, path)
