"""Scaled swishes: the same network in floats, factors that INT8 holds exactly, and less error in INT8."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from models import random_network  # noqa: E402
from tflite_models import graph_of  # noqa: E402

from edgedet.calibration.executor import Executor  # noqa: E402
from edgedet.calibration.observe import observe, table_from_observed  # noqa: E402
from edgedet.calibration.plan import dense_plan  # noqa: E402
from edgedet.calibration.scale_swish import SMALLEST_FACTOR, factors_for, scaled_graph, swishes  # noqa: E402
from edgedet.specs import resized, spec_for  # noqa: E402

SPEC = replace(resized(spec_for("tf_efficientdet_d0"), (128, 128)), num_classes=3)
STEM, WITH_SE, BEFORE_SE = "backbone.conv_stem", "backbone.blocks.1.0.conv_dw", "backbone.blocks.0.0.conv_dw"


@pytest.fixture(scope="module")
def model():
    return graph_of(random_network(SPEC))


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)


def test_the_scaled_graph_is_the_same_network(model, pixels) -> None:
    """Factors far from 1, on the stem and on products of squeeze-excites: outputs within float32's rounding."""
    random = np.random.default_rng(1)
    widths = {STEM: 32, BEFORE_SE: 32, WITH_SE: 96}
    factors = {name: random.uniform(0.05, 1.0, width).astype(np.float32) for name, width in widths.items()}
    wanted = Executor(model).run(pixels)
    got = Executor(scaled_graph(model, factors)).run(pixels)
    for a, b in zip(wanted, got, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


def test_no_factors_change_nothing(model) -> None:
    assert scaled_graph(model, {}).graph.node == model.graph.node


def test_factors_are_exact_in_int8(model, pixels) -> None:
    """A constant of one scale, 1 / 127, whose largest value is 1."""
    factors = factors_for(Executor(model), pixels)
    assert set(factors) == {STEM, BEFORE_SE, WITH_SE}
    for values in factors.values():
        integers = values * 127
        np.testing.assert_allclose(integers, np.rint(integers), atol=1e-5)
        assert values.max() == 1.0
        assert values.min() >= SMALLEST_FACTOR


def test_a_relu6_network_has_no_swish_to_scale() -> None:
    lite = replace(resized(spec_for("tf_efficientdet_lite0"), (128, 128)), num_classes=3)
    assert swishes(graph_of(random_network(lite)).graph.node) == {}


def test_every_tensor_of_the_scaled_graph_gets_a_range(model, pixels) -> None:
    """What the sigmoid alone reads ends at 8 in size: beyond, it is less than half a step from 0 or 1."""
    executor = Executor(model)
    factors = factors_for(executor, pixels)
    table = table_from_observed(executor, *observe(executor, [pixels], factors), "")
    plan = dense_plan(scaled_graph(model, factors), SPEC, table)
    low, high = table.ranges[f"{STEM}.unscaled"]
    seen_low, seen_high = table.observed[STEM]
    assert (low, high) == (max(seen_low, -8.0), min(seen_high, 8.0))
    assert f"{WITH_SE.removesuffix('.conv_dw')}.se.scaled" in plan.tensors
    assert f"{STEM}.swish.scaled" in plan.tensors
    assert f"{STEM}.swish" not in plan.tensors
