"""Weights of other code bases against those code bases: names and shapes of every variant, outputs of several.

The golden files come from scripts/make/layout_fixtures.py, which ran the code bases themselves.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from layouts import LAYOUTS, OUTPUTS, fixtures, source_arrays

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families import EXACT_RATIOS, Converted, automl, effdet, list_block_paths, zylo117
from edgedet.export.checkpoints.families.wrappers import find_state_dict
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.specs import PHI, ROUNDED_RATIOS, SPECS, DetectorSpec

ROOT = Path(__file__).resolve().parents[3]

CONVERTERS = {
    "effdet": effdet.canonical_from_effdet,
    "zylo117": zylo117.canonical_from_zylo117,
    "automl": automl.canonical_from_automl,
}
TOLERANCE = 1e-5  # of the largest output; a wrong tensor moves them by 1e-3 and more (see the test of wrong orders)
HEAVY = ("tf_efficientdet_d7x", "efficientdet-d7x", "8", "efficientdet-d6", "6")  # D6 has the layers of D7


def spec_of(family: str, variant: str) -> DetectorSpec:
    name = {"zylo117": lambda: PHI[int(variant)], "automl": lambda: "tf_" + variant.replace("-", "_")}
    return SPECS[name.get(family, lambda: variant)()]


def every_variant():
    return [
        pytest.param(family, variant, id=f"{family}-{variant}") for family in LAYOUTS for variant in LAYOUTS[family]
    ]


def kept_runs():
    return [
        pytest.param(family, variant, id=f"{family}-{variant}", marks=[pytest.mark.slow] if variant in HEAVY else [])
        for family in OUTPUTS
        for variant in OUTPUTS[family]
    ]


@cache
def canonical_shapes(spec: DetectorSpec) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        state = EfficientDet(spec).state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}


def difference(converted: Converted, spec: DetectorSpec, kept: dict) -> float:
    """Largest difference of our network's outputs to the kept ones, in units of the largest output."""
    spec = replace(spec, num_classes=kept["classes"], input_hw=(kept["side"],) * 2, **converted.spec_changes)
    with torch.device("meta"):  # no time for weights that are replaced
        network = EfficientDet(spec).eval()
    state = {name: torch.as_tensor(value) for name, value in converted.state.items()}
    left_out = network.load_state_dict(state, strict=False, assign=True)
    assert not left_out.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in left_out.missing_keys)
    with torch.inference_mode():
        logits, codes = network(torch.from_numpy(fixtures.picture(kept["side"])))
    found = fixtures.sampled(logits[0].numpy(), codes[0].numpy())
    worst = 0.0
    for key in ("class_logits", "box_codes"):
        ours = np.array(found[key]["samples"]) * found[key]["largest"] / kept[key]["largest"]
        worst = max(worst, float(np.abs(ours - kept[key]["samples"]).max()))
    return worst


@pytest.mark.parametrize(("family", "variant"), every_variant())
def test_every_tensor_of_a_variant_finds_its_place(family, variant):
    arrays = {
        name: np.broadcast_to(np.float32(0), shape) if family == "automl" else torch.empty(shape, device="meta")
        for name, shape in LAYOUTS[family][variant].items()
        if not name.endswith("num_batches_tracked")
    }
    converted = CONVERTERS[family](arrays)
    assert {name: tuple(value.shape) for name, value in converted.state.items()} == canonical_shapes(
        spec_of(family, variant)
    )
    assert spec_of(family, variant).name in converted.models


@pytest.mark.parametrize(("family", "variant"), kept_runs())
def test_outputs_are_those_of_the_code_base(family, variant):
    kept = OUTPUTS[family][variant]
    converted = CONVERTERS[family](source_arrays(family, variant, kept["classes"], kept["gain"]))
    assert difference(converted, spec_of(family, variant), kept) < TOLERANCE


@pytest.mark.parametrize(
    "name",
    [
        "backbone.blocks.1.0.bn2.running_mean",
        "fpn.cell.1.fnode.3.combine.edge_weights",
        "class_net.bn_rep.1.2.bn.bias",
        "backbone.blocks.6.0.se.conv_expand.bias",
    ],
)
def test_one_tensor_in_the_wrong_order_shows_in_the_outputs(name):
    kept = OUTPUTS["zylo117"]["0"]
    converted = CONVERTERS["zylo117"](source_arrays("zylo117", "0", kept["classes"], kept["gain"]))
    converted.state[name] = converted.state[name].flip(0)
    assert difference(converted, spec_of("zylo117", "0"), kept) > 10 * TOLERANCE


def test_each_family_knows_its_own_names_only():
    modules = {"effdet": effdet, "zylo117": zylo117, "automl": automl}
    for family, variants in LAYOUTS.items():
        names = next(iter(variants.values()))
        assert [other for other, module in modules.items() if module.recognises(names)] == [family]


def test_zylo117_drops_the_fusion_weights_that_it_does_not_use():
    layout = LAYOUTS["zylo117"]["6"]
    assert sum("_w1" in name or "_w2" in name for name in layout) == 64  # 8 nodes in 8 cells
    state = zylo117.canonical_from_zylo117({name: torch.empty(shape, device="meta") for name, shape in layout.items()})
    assert not any("edge_weights" in name for name in state.state)


def test_a_name_that_a_map_does_not_know_stays_as_it_is():
    layout = {name: torch.empty(shape, device="meta") for name, shape in LAYOUTS["zylo117"]["0"].items()}
    layout["bifpn.0.conv9_up.bn.weight"] = torch.empty(1)
    assert "bifpn.0.conv9_up.bn.weight" in zylo117.canonical_from_zylo117(layout).state


def test_kernels_are_transposed():
    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)  # H W I O
    depthwise = kernel[..., :1]  # H W C 1
    arrays = {f"efficientnet-b0/blocks_{i}/conv2d/bias:0": np.zeros(1) for i in range(16)}
    arrays["class_net/class_net/class-predict/pointwise_kernel:0"] = kernel
    arrays["class_net/class_net/class-predict/depthwise_kernel:0"] = depthwise
    state = automl.canonical_from_automl(arrays).state
    assert state["class_net.predict.conv_pw.weight"].shape == (5, 4, 2, 3)
    assert state["class_net.predict.conv_pw.weight"][4, 3, 1, 2] == kernel[1, 2, 3, 4]
    assert state["class_net.predict.conv_dw.weight"].shape == (4, 1, 2, 3)
    assert state["class_net.predict.conv_dw.weight"][3, 0, 1, 2] == depthwise[1, 2, 3, 0]


@pytest.mark.parametrize(
    ("name", "simple"),
    [
        ("efficientnet-b0/efficientnet-b0/stem/conv2d/kernel:0", "backbone/stem/conv/kernel"),
        ("efficientnet-lite0/efficientnet-lite0/stem/conv2d_17/kernel:0", "backbone/stem/conv/kernel"),
        ("efficientnet-b0/efficientnet-b0/stem_1/conv2d_1/kernel:0", "backbone/stem/conv/kernel"),  # a session's second
        ("efficientnet-b0/efficientnet-b0/stem_2/tpu_batch_normalization/beta:0", "backbone/stem/bn/beta"),
        ("efficientnet-b7/efficientdet-d7x/efficientnet-b7/stem/batch_normalization_3/beta:0", "backbone/stem/bn/beta"),
        ("fpn_cells/fpn_cells/cell_0/fnode1/resample_0_2_6/bn/gamma:0", "fpn_cells/cell_0/fnode1/resample_2/bn/gamma"),
        (
            "fpn_cells/fpn_cells/cell_1/fnode7/op_after_combine12/conv/bias:0",
            "fpn_cells/cell_1/fnode7/op_after_combine/conv/bias",
        ),
    ],
)
def test_numbers_that_keras_gives_by_the_way_are_taken_out(name, simple):
    assert automl.simplify_name(name) == simple


def test_lite_models_of_automl_bring_their_own_normalisation():
    arrays = {
        name: np.broadcast_to(np.float32(0), shape) for name, shape in LAYOUTS["automl"]["efficientdet-lite0"].items()
    }
    converted = automl.canonical_from_automl(arrays)
    assert converted.spec_changes["mean_rgb"] == (127 / 255,) * 3
    assert converted.spec_changes["std_rgb"] == (128 / 255,) * 3
    assert converted.spec_changes["fill_rgb"] == (127, 127, 127)
    assert converted.spec_changes["aspect_ratios"] == EXACT_RATIOS
    assert set(converted.models) == {name for name in SPECS if "tf_efficientdet_lite" in name}


def test_a_backbone_that_is_no_efficientnet_is_named():
    assert list_block_paths(16)[:4] == ["0.0", "1.0", "1.1", "2.0"]
    with pytest.raises(CheckpointError, match="the backbone has 15 blocks, an EfficientNet has 16, 21, 23, 24, 26, "):
        list_block_paths(15)


def test_level_first_heads_are_turned():
    layout = LAYOUTS["effdet"]["tf_efficientdet_d0"]
    names = {}
    for name in layout:
        parts = name.split(".")
        if (
            ".bn_rep." in name
        ):  # class_net.bn_rep.<repeat>.<level>.bn.<leaf> -> class_net.bn_rep.<level>.<repeat>.<leaf>
            parts = [parts[0], parts[1], parts[3], parts[2], parts[5]]
        names[".".join(parts)] = name
    state = {turned: torch.full((1,), float(i)) for i, turned in enumerate(names)}
    converted = effdet.canonical_from_effdet(state)
    assert converted.state == {name: state[turned] for turned, name in names.items()}


def anchors_of(side_hw, scale, ratios, levels=range(3, 8)):
    """effdet's anchors, (A, 4) y1 x1 y2 x2, by its documented rule."""
    rows = []
    for level in levels:
        stride_h, stride_w = side_hw[0] / -(-side_hw[0] // 2**level), side_hw[1] / -(-side_hw[1] // 2**level)
        for cy in np.arange(stride_h / 2, side_hw[0], stride_h):
            for cx in np.arange(stride_w / 2, side_hw[1], stride_w):
                for octave in (1, 2 ** (1 / 3), 2 ** (2 / 3)):
                    for w, h in ratios:
                        half_h, half_w = scale * stride_h * octave * h / 2, scale * stride_w * octave * w / 2
                        rows.append((cy - half_h, cx - half_w, cy + half_h, cx + half_w))
    return torch.tensor(rows, dtype=torch.float32)


@pytest.mark.parametrize("ratios", [ROUNDED_RATIOS, EXACT_RATIOS, ((1.0, 1.0), (1.8, 0.6), (0.6, 1.8))])
@pytest.mark.parametrize(("side_hw", "scale"), [((512, 512), 4.0), ((384, 640), 5.0), ((320, 320), 3.0)])
def test_a_bench_tells_size_and_anchors(side_hw, scale, ratios):
    found = effdet.spec_changes_from_anchors(anchors_of(side_hw, scale, ratios))
    assert found["input_hw"] == side_hw
    assert found["anchor_scale"] == scale
    np.testing.assert_allclose(found["aspect_ratios"], ratios, rtol=1e-5)


def test_anchors_of_another_design_are_refused():
    boxes = anchors_of((512, 512), 4.0, ROUNDED_RATIOS)
    boxes[4] *= 1.1
    with pytest.raises(CheckpointError, match="not 3 sizes of 3 ratios a cell"):
        effdet.spec_changes_from_anchors(boxes)
    with pytest.raises(CheckpointError, match=r"should be \(A, 4\) corners; got \(2, 3\)"):
        effdet.spec_changes_from_anchors(torch.zeros(2, 3))


def is_tensor(value) -> bool:
    return isinstance(value, torch.Tensor)


PLAIN = {effdet.STEM: torch.ones(1), "class_net.predict.conv_pw.bias": torch.ones(9)}
AVERAGED = {name: 2 * value for name, value in PLAIN.items()}


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    ("loaded", "notes"),
    [
        (PLAIN, ()),
        (prefixed("module.", PLAIN), ()),
        (prefixed("model.module.", PLAIN), ()),
        ({"state_dict": prefixed("model.", PLAIN), "epoch": 3}, ("read state_dict",)),
        ({"model_state_dict": PLAIN, "loss": torch.zeros(())}, None),
        ({"model": {"state_dict": PLAIN}}, ("read model", "read state_dict")),
        ({**PLAIN, "epoch": 7}, ()),
    ],
)
def test_wrappers_are_taken_off(loaded, notes):
    if notes is None:  # a tensor beside the dictionary of tensors must not be taken for the model
        loaded = {**loaded, "loss": 0.5}
        notes = ("read model_state_dict",)
    assert find_state_dict(loaded, is_tensor) == (PLAIN, notes)


@pytest.mark.parametrize(
    ("loaded", "note"),
    [
        (
            {"state_dict": PLAIN, "state_dict_ema": prefixed("module.", AVERAGED)},
            "read state_dict_ema (averaged weights)",
        ),
        (
            {"state_dict": {**prefixed("model.", PLAIN), **prefixed("ema.module.", AVERAGED)}},
            "the file holds 2 models, of which the one under 'ema.module.' is read",
        ),
    ],
)
def test_averaged_weights_come_first_and_are_told(loaded, note):
    state, notes = find_state_dict(loaded, is_tensor)
    assert state[effdet.STEM] == 2
    assert any(note in text for text in notes)


def test_a_bench_keeps_its_anchors_and_leaves_out_the_rest():
    loaded = {**prefixed("model.", PLAIN), "anchors.boxes": torch.zeros(4), "loss_fn.weight": torch.zeros(1)}
    state, notes = find_state_dict(loaded, is_tensor)
    assert set(state) == {*PLAIN, "anchors.boxes"}
    assert notes == ("the entries that do not begin with 'model.' (1, first loss_fn.weight) are left out",)


@pytest.mark.parametrize("loaded", [None, [1], {"state_dict": 3}, {"a": {"b": torch.ones(1)}}])
def test_what_holds_no_state_dict_is_refused(loaded):
    with pytest.raises(CheckpointError, match=r"no dictionary of tensors: save model\.state_dict\(\)"):
        find_state_dict(loaded, is_tensor)
