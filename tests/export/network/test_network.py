"""Every model of the family against effdet's own, network and fused ONNX; sizes, levels and fusion weights by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from models import effdet_model, effdet_outputs, random_network, random_pixels, relative_error, run_onnx

from edgedet.export.checkpoints.families.effdet import canonical_from_effdet
from edgedet.export.network.backbone import list_stage_shapes, same_pads, scale_channels
from edgedet.export.network.efficientdet import Combine, EfficientDet, Resample, node_table, resized_to
from edgedet.export.verify import network_input
from edgedet.specs import SPECS

TOLERANCE = 1e-4  # of the largest magnitude
STRUCTURES = [name for name in SPECS if not name.endswith("_ap")]  # AdvProp models differ in normalisation only
# Slow: the large ones, ten seconds to half a minute each, and sizes between others of the same kind.
LARGE = ("d4", "d5", "d6", "d7", "d7x")
BETWEEN = (
    *(f"efficientdet_d{n}" for n in (1, 2, 3)),
    *(f"tf_efficientdet_d{n}" for n in (1, 2)),
    *(f"tf_efficientdet_lite{n}" for n in (1, 2, 3)),
)
SLOW = {name for name in STRUCTURES if name.endswith(LARGE) or name in BETWEEN}
CLASSES = 3
SENSITIVITY = 0.1  # another picture must change outputs by this much, or agreement on one proves nothing


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in STRUCTURES])
@torch.inference_mode()
def test_network_and_fused_onnx_equal_effdet(name: str) -> None:
    """D0 and Lite0 at their own size, the rest smaller and not square, all with random weights and statistics."""
    own_size = name.endswith(("d0", "lite0"))
    size = SPECS[name].input_hw if own_size else (128, 192)
    if name.endswith("d7x"):
        size = (256, 384)  # effdet's pyramid needs P8 to shrink
    spec = replace(SPECS[name], input_hw=size, num_classes=CLASSES)
    oracle = effdet_model(spec)
    with torch.device("meta"):  # no time for weights that are replaced
        network = EfficientDet(spec).eval()
    network.load_state_dict(canonical_from_effdet(oracle.state_dict()).state, assign=True)
    pixels = random_pixels(spec)
    wanted = effdet_outputs(oracle.double(), network_input(pixels, spec).double(), CLASSES)
    other = network(network_input(random_pixels(spec, seed=2), spec))
    assert all(relative_error(a, b) > SENSITIVITY for a, b in zip(other, wanted, strict=True))
    for got in (network(network_input(pixels, spec)), run_onnx(network, pixels)):
        for ours, theirs in zip(got, wanted, strict=True):
            assert ours.shape == theirs.shape
            assert relative_error(ours, theirs) < TOLERANCE


@torch.inference_mode()
def test_random_networks_depend_on_their_picture() -> None:
    spec = replace(SPECS["tf_efficientdet_d0"], input_hw=(128, 192), num_classes=CLASSES)
    network = random_network(spec)
    outputs = [network(network_input(random_pixels(spec, seed), spec)) for seed in (1, 2)]
    assert all(relative_error(a, b) > SENSITIVITY for a, b in zip(*outputs, strict=True))


@pytest.mark.parametrize("size", [(128, 128), (129, 131), (200, 333), (383, 128), (512, 288)])
@torch.inference_mode()
def test_fused_onnx_equals_the_network_at_any_size(size: tuple[int, int]) -> None:
    """Odd sizes: uneven SAME padding on both sides, nearest ratios other than 2, levels of one cell."""
    spec = replace(SPECS["tf_efficientdet_d0"], input_hw=size, num_classes=2)
    network = random_network(spec)
    pixels = random_pixels(spec)
    for got, wanted in zip(run_onnx(network, pixels), network(network_input(pixels, spec)), strict=True):
        assert relative_error(got, wanted) < TOLERANCE


@pytest.mark.parametrize(
    "other",
    [
        {"padding": "symmetric"},
        {"backbone_padding": "symmetric"},
        {"pool_padding": "zeros"},
        {"fusion": "attn"},
        {"pool_first": True},
    ],
    ids=str,
)
@torch.inference_mode()
def test_fused_onnx_equals_the_network_with_other_settings(other: dict[str, str]) -> None:
    spec = replace(SPECS["tf_efficientdet_d0"], input_hw=(160, 224), num_classes=2, **other)
    network = random_network(spec)
    pixels = random_pixels(spec)
    for got, wanted in zip(run_onnx(network, pixels), network(network_input(pixels, spec)), strict=True):
        assert relative_error(got, wanted) < TOLERANCE


@torch.inference_mode()
def test_fused_onnx_equals_the_network_where_levels_have_one_cell() -> None:
    """D7x below 256 pixels: P7 and P8 are of one cell, so nothing is pooled between them."""
    spec = replace(SPECS["tf_efficientdet_lite0"], input_hw=(128, 256), max_level=8, num_classes=2)
    network = random_network(spec)
    pixels = random_pixels(spec)
    for got, wanted in zip(run_onnx(network, pixels), network(network_input(pixels, spec)), strict=True):
        assert relative_error(got, wanted) < TOLERANCE


def test_zeros_around_a_max_pool_can_win() -> None:
    """SAME padding of 4 cells lies right and below."""
    below_zero = torch.full((1, 1, 4, 4), -1.0)
    assert resized_to(below_zero, (2, 2), "same", "nothing").tolist() == [[[[-1.0, -1.0], [-1.0, -1.0]]]]
    assert resized_to(below_zero, (2, 2), "same", "zeros").tolist() == [[[[-1.0, 0.0], [0.0, 0.0]]]]


def test_level_sizes_are_halved_upwards() -> None:
    assert replace(SPECS["tf_efficientdet_d0"], input_hw=(320, 333)).level_sizes() == (
        (40, 42),
        (20, 21),
        (10, 11),
        (5, 6),
        (3, 3),
    )


def test_same_padding_puts_the_odd_pixel_after() -> None:
    assert same_pads(512, 3, 2) == (0, 1)
    assert same_pads(511, 3, 2) == (1, 1)
    assert same_pads(512, 5, 2) == (1, 2)
    assert same_pads(64, 3, 1) == (1, 1)


def test_widths_are_multiples_of_eight_not_below_nine_tenths() -> None:
    assert [scale_channels(32, width) for width in (1.0, 1.1, 1.4, 1.6)] == [32, 32, 48, 48]
    assert scale_channels(16, 1.1) == 16
    assert scale_channels(24, 1.4) == 32


def test_lite_keeps_its_stem_and_does_not_repeat_first_and_last_stage() -> None:
    stem, stages = list_stage_shapes("lite4")
    assert stem == 32
    assert [len(stage) for stage in stages] == [1, 4, 4, 6, 6, 8, 1]
    assert [len(stage) for stage in list_stage_shapes("b4")[1]] == [2, 4, 4, 6, 6, 8, 2]


def test_bifpn_nodes_go_down_then_up() -> None:
    """Figure 2d of the paper, 5 levels: inputs 0-4, nodes from 5."""
    assert node_table(5) == [
        (3, (3, 4)),
        (2, (2, 5)),
        (1, (1, 6)),
        (0, (0, 7)),
        (1, (1, 7, 8)),
        (2, (2, 6, 9)),
        (3, (3, 5, 10)),
        (4, (4, 11)),
    ]


def test_fusion_weights_are_normalised_after_relu() -> None:
    combine = Combine({0: 8, 1: 8, 2: 8}, replace(SPECS["tf_efficientdet_d0"], bifpn_channels=8))
    with torch.no_grad():
        combine.edge_weights.copy_(torch.tensor([1.0, -2.0, 3.0]))
    np.testing.assert_allclose(combine.weights().detach().numpy(), [1 / 4.0001, 0.0, 3 / 4.0001], rtol=1e-6)


def test_attention_normalises_fusion_weights_by_softmax() -> None:
    """automl's fpn_weight_method attn: e^w / sum e^w."""
    combine = Combine({0: 8, 1: 8}, replace(SPECS["tf_efficientdet_d0"], bifpn_channels=8, fusion="attn"))
    with torch.no_grad():
        combine.edge_weights.copy_(torch.tensor([0.0, np.log(3.0)]))
    np.testing.assert_allclose(combine.weights().detach().numpy(), [0.25, 0.75], rtol=1e-6)


@torch.inference_mode()
def test_a_feature_may_be_pooled_before_its_width_changes() -> None:
    """automl's conv_after_downsample: the maximum of a convolution is not the convolution of a maximum."""
    spec = replace(SPECS["tf_efficientdet_d0"], bifpn_channels=8)
    torch.manual_seed(0)
    last, first = Resample(16, spec).eval(), Resample(16, replace(spec, pool_first=True)).eval()
    first.load_state_dict(last.state_dict())
    x = torch.randn(1, 16, 4, 4)
    assert torch.equal(first(x, (2, 2)), first.conv(resized_to(x, (2, 2), "same", "nothing")))
    assert relative_error(first(x, (2, 2)), last(x, (2, 2))) > 0.01
    assert torch.equal(first(x, (8, 8)), last(x, (8, 8)))  # where it grows, nothing changes
