"""Anchors against hand-computed boxes, and bit for bit against effdet's for the whole family."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from effdet_oracle import import_effdet

from edgedet.anchors import anchors_for
from edgedet.specs import SPECS, resized

D0 = SPECS["tf_efficientdet_d0"]


def test_d0_has_49104_anchors():
    """(64^2 + 32^2 + 16^2 + 8^2 + 4^2) cells x 9 shapes."""
    assert anchors_for(D0).shape == (49104, 4)
    assert anchors_for(D0).dtype == np.float32


def test_first_cell_holds_octaves_then_ratios():
    """Cell (0, 0) of P3 is centred on (4, 4); the base side is anchor scale 4 x stride 8 = 32."""
    anchors = anchors_for(D0)
    np.testing.assert_allclose(anchors[0], [-12, -12, 20, 20])  # octave 0, square
    np.testing.assert_allclose(anchors[1], [4 - 11.2, 4 - 22.4, 4 + 11.2, 4 + 22.4], atol=1e-5)  # 1.4 wide, 0.7 high
    np.testing.assert_allclose(anchors[2], [4 - 22.4, 4 - 11.2, 4 + 22.4, 4 + 11.2], atol=1e-5)  # 0.7 wide, 1.4 high
    half = 16 * 2 ** (1 / 3)
    np.testing.assert_allclose(anchors[3], [4 - half, 4 - half, 4 + half, 4 + half], atol=1e-5)  # octave 1/3, square


def test_cells_go_row_by_row_and_levels_from_the_finest():
    anchors = anchors_for(D0)
    np.testing.assert_allclose(anchors[9], [-12, -4, 20, 28])  # one cell to the right: x + 8
    np.testing.assert_allclose(anchors[64 * 9], [-4, -12, 28, 20])  # one row down: y + 8
    np.testing.assert_allclose(anchors[64 * 64 * 9], [-24, -24, 40, 40])  # P4: centre 8, side 64


def test_stride_is_a_fraction_where_the_level_was_rounded_up():
    """200 pixels give 13 cells on P4, so its stride is 200 / 13, not 16."""
    spec = resized(D0, (200, 256))
    first_of_p4 = anchors_for(spec)[25 * 32 * 9]
    stride_y, stride_x = 200 / 13, 16.0
    half_y, half_x = 2 * stride_y, 2 * stride_x  # half of anchor scale 4 x stride
    y, x = stride_y / 2, stride_x / 2
    np.testing.assert_allclose(first_of_p4, [y - half_y, x - half_x, y + half_y, x + half_x], atol=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_equal_to_effdet_to_the_last_bit(name):
    import_effdet()
    from effdet.anchors import Anchors

    for input_hw in (SPECS[name].input_hw, (200, 328), (130, 129)):
        spec = resized(SPECS[name], input_hw)
        oracle = Anchors(
            spec.min_level,
            spec.max_level,
            len(spec.anchor_scales),
            spec.aspect_ratios,
            spec.anchor_scale,
            spec.input_hw,
        )
        np.testing.assert_array_equal(anchors_for(spec), oracle.boxes.numpy())


def test_other_numbers_of_scales_and_ratios():
    spec = replace(D0, anchor_scales=(1.0, 2**0.5), aspect_ratios=((1.0, 1.0),))
    anchors = anchors_for(spec)
    assert len(anchors) == 49104 // 9 * 2
    half = 16 * 2**0.5
    np.testing.assert_allclose(anchors[1], [4 - half, 4 - half, 4 + half, 4 + half], atol=1e-5)
