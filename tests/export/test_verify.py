"""A file is judged by what float32 costs in the network itself: right files pass, faults are found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from models import random_network

from edgedet.artifact import ArtifactMeta
from edgedet.errors import VerificationError
from edgedet.export.fusion.fuse import graph_from_network
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.export.onnx_file import write_onnx
from edgedet.export.verify import LEAST_TOLERANCE, measure_difference, verify
from edgedet.specs import SPECS, resized

FRAMES = [np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)]


def written(network: EfficientDet, folder: Path) -> Path:
    spec = network.spec
    meta = ArtifactMeta(spec, tuple(f"class_{index}" for index in range(spec.num_classes)), "fp32", "0" * 64)
    path = folder / "model.onnx"
    write_onnx(graph_from_network(network, meta), meta, path)
    return path


def network_of(name: str, classes: int = 3) -> EfficientDet:
    return random_network(replace(resized(SPECS[name], (128, 128)), num_classes=classes))


def test_a_right_file_is_within_a_few_rounding_errors(tmp_path: Path) -> None:
    network = network_of("tf_efficientdet_d0")
    difference = verify(written(network, tmp_path), network, FRAMES, 1)
    assert difference.worst <= difference.tolerance
    assert 0 < difference.rounding < 1e-5
    assert difference.worst < 4 * difference.rounding


def test_a_network_that_rounds_more_may_differ_more(tmp_path: Path) -> None:
    """Means of thousands that are added and subtracted again: float32 has but 1e-4 of what is left."""
    network = network_of("tf_efficientdet_lite0")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("class_net.conv_rep") and name.endswith("conv_pw.bias"):
                parameter += 3000.0
        for name, buffer in network.named_buffers():
            if name.startswith("class_net.bn_rep") and name.endswith("running_mean"):
                buffer += 3000.0
    difference = measure_difference(written(network, tmp_path), network, FRAMES, 1)
    assert difference.rounding > LEAST_TOLERANCE / 10
    assert difference.tolerance == pytest.approx(min(10 * difference.rounding, 1e-3))


def one_weight(network: EfficientDet) -> None:
    network.backbone.conv_stem.weight[3, 1, 1, 1] *= 1.5


def swapped_channels(network: EfficientDet) -> None:
    bias = network.class_net.predict.conv_pw.bias
    bias[:2] = bias[[1, 0]] + torch.tensor([0.05, -0.05])


def swapped_colours(network: EfficientDet) -> None:
    network.backbone.conv_stem.weight[:] = network.backbone.conv_stem.weight[:, [2, 1, 0]]


@pytest.mark.parametrize("fault", [one_weight, swapped_channels, swapped_colours])
def test_a_small_fault_is_found(fault: Callable[[EfficientDet], None], tmp_path: Path) -> None:
    network = network_of("tf_efficientdet_d0")
    path = written(network, tmp_path)
    other = copy.deepcopy(network)
    with torch.no_grad():
        fault(other)
    with pytest.raises(VerificationError, match=r"outputs differ by .* at most .* is allowed, where float32 rounds by"):
        verify(path, other, FRAMES, 1)


def test_a_wrong_padding_is_found(tmp_path: Path) -> None:
    network = network_of("tf_efficientdet_d0")
    other = EfficientDet(replace(network.spec, padding="symmetric")).eval()
    other.load_state_dict(network.state_dict())
    with pytest.raises(VerificationError, match="outputs differ by"):
        verify(written(network, tmp_path), other, FRAMES, 1)


@pytest.mark.parametrize("value", [0.0, 0.01])
def test_weights_that_are_all_equal_are_not_verified(tmp_path: Path, value: float) -> None:
    network = network_of("tf_efficientdet_d0")
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.fill_(value)
    with pytest.raises(VerificationError, match="weights are empty or all equal"):
        verify(written(network, tmp_path), network, FRAMES, 1)
