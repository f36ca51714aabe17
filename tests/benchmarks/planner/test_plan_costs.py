"""The shipped table of layer costs against graphs exported now."""

from dataclasses import replace

import pytest

from edgedet.benchmarks.planner.costs import (
    MORE_SIZES,
    VARIANTS,
    count_network_costs,
    find_costs,
    find_own_side,
    shorten_variant,
)
from edgedet.errors import InputError
from edgedet.specs import SPECS, spec_for


def test_every_variant_and_published_size_is_in_the_table():
    for variant in VARIANTS:
        for side in (None, *MORE_SIZES.get(variant, ())):
            assert find_costs(variant, side).side == (side or find_own_side(variant))


def test_all_names_of_the_family_have_costs():
    assert {shorten_variant(name) for name in SPECS} == set(VARIANTS)
    assert shorten_variant("tf_efficientdet_d3_ap") == shorten_variant("efficientdet_d3") == "d3"
    with pytest.raises(InputError, match="d7x, lite0.*got 'yolo'"):
        shorten_variant("yolo")


def test_macs_are_the_published_ones():
    """google/automl's table, in 1e9; the composed projection takes up to 4 % off, D5's row there is rounded."""
    published = {
        "d0": 2.54,
        "d1": 6.10,
        "d2": 11.0,
        "d3": 24.9,
        "d4": 55.2,
        "d5": 130,
        "d6": 226,
        "d7": 325,
        "d7x": 410,
    }
    for variant, macs in published.items():
        assert 0.955 < find_costs(variant).macs / 1e9 / macs < 1.035, variant


@pytest.mark.parametrize(("variant", "side"), [("d0", 512), ("lite0", 320), ("d2", 640)])
def test_the_table_is_what_an_export_costs(variant, side):
    pytest.importorskip("torch", reason="graphs are made with PyTorch")
    spec = replace(spec_for(f"tf_efficientdet_{variant}"), input_hw=(side, side))
    now, stored = count_network_costs(spec, variant), find_costs(variant, side)
    why = "the exporter changed: run python -m edgedet.benchmarks.planner.costs"
    assert now.macs == pytest.approx(stored.macs, rel=0.002), why
    assert now.parameters == pytest.approx(stored.parameters, rel=0.01), why
    assert now.peak_elements == pytest.approx(stored.peak_elements, rel=0.01), why
    for op_class in {row.op_class for row in now.rows}:
        for amount in (lambda row: 1, lambda row: row.read + row.weights + row.written):
            sums = [sum(row.count * amount(row) for row in x.rows if row.op_class == op_class) for x in (now, stored)]
            assert sums[0] == pytest.approx(sums[1], rel=0.01), f"{op_class}: {why}"


def test_other_sizes_are_exported_on_demand():
    pytest.importorskip("torch", reason="graphs are made with PyTorch")
    assert 0.2 < find_costs("lite0", 160).macs / find_costs("lite0").macs < 0.3
    with pytest.raises(InputError, match="at least 128 pixels"):
        find_costs("lite0", 64)


def test_peak_activations_of_d0_are_two_maps_of_its_second_block():
    """The first depthwise of stage 1 reads 96 x 256 x 256 and writes 96 x 128 x 128; before it, swish keeps two copies
    at most: 96 x 256 x 256 plus the projection's 16 x 256 x 256, and the next convolution's output."""
    peak = find_costs("d0").peak_elements
    assert 96 * 256 * 256 < peak < 2 * 96 * 256 * 256
