"""Weights are rounded for their layer's outputs: less error than rounding each to the nearest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from models import (
    random_network,
    random_pixels,
)
from sparse_models import sparse_model

from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.placement.plan import make_dense_plan
from edgedet.calibration.ranges.choose import table_from_observed
from edgedet.calibration.ranges.observe import observe
from edgedet.calibration.recovery.reconstruct import reconstruct_weights, round_columns
from edgedet.calibration.recovery.recover import correct_biases
from edgedet.specs import SPECS

D0 = replace(SPECS["tf_efficientdet_d0"], num_classes=3, input_hw=(128, 160))


def test_two_equal_inputs_share_one_error() -> None:
    """0.4 + 0.4 of two equal inputs is 0.8: rounded to 0 + 1, where nearest gives 0 + 0."""
    weight = torch.tensor([[[0.4, 0.4]]], dtype=torch.float64)
    moments = torch.ones(1, 2, 2, dtype=torch.float64)
    assert round_columns(weight, moments, torch.ones(1, 1, dtype=torch.float64)).tolist() == [[[0.0, 1.0]]]


def test_inputs_that_do_not_correlate_are_rounded_to_the_nearest() -> None:
    weight = torch.tensor([[[0.4, -1.6, 200.0]]], dtype=torch.float64)
    moments = torch.eye(3, dtype=torch.float64)[None]
    assert round_columns(weight, moments, torch.ones(1, 1, dtype=torch.float64)).tolist() == [[[0.0, -2.0, 127.0]]]


def test_a_dead_input_rounds_to_the_nearest_and_stays_finite() -> None:
    weight = torch.tensor([[[0.4, 0.6]]], dtype=torch.float64)
    moments = torch.zeros(1, 2, 2, dtype=torch.float64)
    assert round_columns(weight, moments, torch.ones(1, 1, dtype=torch.float64)).tolist() == [[[0.0, 1.0]]]


def test_a_layer_of_many_inputs_errs_less_than_the_nearest_integers() -> None:
    random = torch.Generator().manual_seed(1)
    inputs = torch.randn(64, 8, generator=random, dtype=torch.float64) @ torch.randn(
        8, 2000, generator=random, dtype=torch.float64
    )
    weight = torch.randn(1, 16, 64, generator=random, dtype=torch.float64)
    scales = torch.full((1, 16), 0.1, dtype=torch.float64)
    integers = round_columns(weight, (inputs @ inputs.T)[None], scales)

    def error(rounded: torch.Tensor) -> float:
        return float(((weight - rounded * 0.1)[0] @ inputs).square().mean().sqrt())

    assert error(integers) < 0.5 * error((weight / 0.1).round())


@pytest.mark.parametrize("placement", ["dense", "sparse"])
def test_the_network_s_outputs_err_less_than_with_biases_corrected_only(placement: str) -> None:
    network, pixels = random_network(D0), random_pixels(D0)
    model, _, sparse = sparse_model(network, pixels)
    executor = Executor(model)
    dense = make_dense_plan(model, D0, table_from_observed(executor, *observe(executor, [pixels]), "", "minmax"))
    plan = dense if placement == "dense" else sparse
    better = reconstruct_weights(executor, correct_biases(executor, plan, pixels), pixels)
    assert better.convs.keys() == plan.convs.keys()
    wanted = executor.run(pixels)[0]

    def error(convs) -> float:
        stem = next(iter(plan.convs)) if placement == "dense" else ""
        return float(
            np.square(executor.run(pixels, convs={n: q for n, q in convs.items() if n != stem})[0] - wanted).mean()
        )

    assert error(better.convs) < error(correct_biases(executor, plan, pixels).convs)
