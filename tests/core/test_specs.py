"""The family table against effdet's own configurations, and the refusals of what is not in it."""

from __future__ import annotations

import json

import pytest
from effdet_oracle import import_effdet

from edgedet.errors import InputError
from edgedet.specs import PHI, SPECS, DetectorSpec, resized, spec_for

FPN = {None: "fastattn", "bifpn_sum": "sum"}  # no name means bifpn_fa in effdet's get_fpn_config


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_what_effdet_configures(name):
    """Every number that fixes network, anchors or pre-processing; AdvProp's differ in the last only."""
    effdet = import_effdet()
    from effdet.data.input_config import resolve_input_config
    from effdet.data.transforms import resolve_fill_color

    config = effdet.get_efficientdet_config(name)
    inputs = resolve_input_config({}, config)
    spec = SPECS[name]
    assert spec.name == config.name
    assert spec.backbone == config.backbone_name.removeprefix("tf_").removeprefix("efficientnet_").removesuffix("_ap")
    assert spec.input_hw == tuple(config.image_size)
    assert spec.num_classes == config.num_classes == 90
    assert (spec.min_level, spec.max_level, spec.num_levels) == (config.min_level, config.max_level, config.num_levels)
    assert (spec.bifpn_channels, spec.bifpn_repeats) == (config.fpn_channels, config.fpn_cell_repeats)
    assert spec.head_repeats == config.box_class_repeats
    assert spec.anchor_scale == config.anchor_scale
    assert spec.anchor_scales == tuple(2 ** (part / config.num_scales) for part in range(config.num_scales))
    assert spec.aspect_ratios == tuple(map(tuple, config.aspect_ratios))
    assert spec.fusion == FPN[config.fpn_name]
    assert (spec.padding, spec.activation) == (config.pad_type or "symmetric", config.act_type)
    assert spec.backbone_padding == ("same" if config.backbone_name.startswith("tf_") else "symmetric")
    assert (spec.mean_rgb, spec.std_rgb) == (tuple(inputs["mean"]), tuple(inputs["std"]))
    assert spec.fill_rgb == resolve_fill_color(inputs["fill_color"], inputs["mean"])


def test_every_efficientdet_of_effdet_with_a_plain_backbone_is_in_the_table():
    """The others (w0, es, em, q0-q2, v2) have another backbone or another pyramid."""
    import_effdet()
    from effdet.config.model_config import efficientdet_model_param_dict

    tensorflow = {name for name in efficientdet_model_param_dict if name.startswith("tf_efficientdet_")}
    assert tensorflow | {f"efficientdet_{size}" for size in ("d0", "d1", "d2", "d3", "d4", "d5", "lite0")} == set(SPECS)


def test_a_spec_that_the_first_edgedet_wrote_is_read():
    """It counted scales, and knew one kind of padding."""
    values = SPECS["efficientdet_d0"].to_dict()
    old = {
        key: value for key, value in values.items() if key not in ("anchor_scales", "backbone_padding", "pool_first")
    }
    assert DetectorSpec.from_dict({**old, "num_scales": 3}) == SPECS["efficientdet_d0"]


@pytest.mark.parametrize(
    ("name", "sizes", "anchors"),
    [
        ("tf_efficientdet_d0", ((64, 64), (32, 32), (16, 16), (8, 8), (4, 4)), 49_104),
        ("tf_efficientdet_d7", ((192, 192), (96, 96), (48, 48), (24, 24), (12, 12)), 441_936),
        ("tf_efficientdet_d7x", ((192, 192), (96, 96), (48, 48), (24, 24), (12, 12), (6, 6)), 442_260),
        ("tf_efficientdet_lite0", ((40, 40), (20, 20), (10, 10), (5, 5), (3, 3)), 19_206),
    ],
)
def test_levels_halve_the_input_and_have_nine_anchors_a_cell(name, sizes, anchors):
    """Lite0's last level is 3 wide: 5 halved and rounded up."""
    spec = SPECS[name]
    assert spec.level_sizes() == sizes
    assert sum(h * w for h, w in sizes) * spec.anchors_per_cell == anchors


def test_phi_counts_the_d_models_and_8_is_d7x():
    assert [PHI[phi] for phi in range(8)] == [f"tf_efficientdet_d{phi}" for phi in range(8)]
    assert (PHI[8], len(PHI)) == ("tf_efficientdet_d7x", 9)


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_survives_json(name):
    assert DetectorSpec.from_dict(json.loads(json.dumps(SPECS[name].to_dict()))) == SPECS[name]


def test_what_is_not_in_the_table_is_refused_with_the_names():
    with pytest.raises(InputError, match="unknown model 'd9'; choose from tf_efficientdet_d0, tf_efficientdet_d1"):
        spec_for("d9")


def test_a_spec_of_another_version_is_refused():
    with pytest.raises(InputError, match="not a detector spec of edgedet"):
        DetectorSpec.from_dict({**SPECS["tf_efficientdet_d0"].to_dict(), "colour": "red"})


@pytest.mark.parametrize("input_hw", [(127, 512), (512, 64)])
def test_a_size_without_a_cell_for_each_level_is_refused(input_hw):
    with pytest.raises(InputError, match="at least 128 pixels a side"):
        resized(SPECS["tf_efficientdet_d0"], input_hw)
