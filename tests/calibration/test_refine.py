"""Ranges judged at the outputs: a ruined range is found and mended, others stay; without detections nothing changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")


from tflite_models import random_graph

from edgedet.calibration.graph.downstream import DownstreamGraph
from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.placement.plan import (
    QuantParams,
    make_dense_plan,
    make_sparse_plan,
    params_from_magnitude,
    params_from_range,
)
from edgedet.calibration.placement.table import CalibrationTable
from edgedet.calibration.quantise import KEEP_FLOAT
from edgedet.calibration.ranges import refine
from edgedet.calibration.ranges.choose import fake_quantise, table_from_observed
from edgedet.calibration.ranges.observe import _take_evenly, measure_range_movement, observe
from edgedet.specs import resized, spec_for

SPEC = replace(resized(spec_for("tf_efficientdet_d0"), (128, 128)), num_classes=3)
TENSOR, PAIRED = "backbone.blocks.2.0.conv_dw.swish", "backbone.blocks.3.0.conv_pwl"


@pytest.fixture(scope="module")
def parts():
    executor = Executor(random_graph(SPEC))
    pixels = list(np.random.default_rng(0).integers(0, 256, (3, 1, 128, 128, 3), np.uint8))
    return executor, table_from_observed(executor, *observe(executor, pixels), "0" * 64, "minmax"), pixels


def refine_ranges(parts, table: CalibrationTable) -> CalibrationTable:
    executor, _, pixels = parts
    model = random_graph(SPEC)
    return refine.refine_ranges(
        executor, table, make_dense_plan(model, SPEC, table), make_sparse_plan(model, table, KEEP_FLOAT), pixels
    )


def test_a_changed_value_gives_the_outputs_of_a_whole_run(parts) -> None:
    executor, table, pixels = parts
    q = params_from_range(*table.ranges[TENSOR])
    wanted = executor.run(pixels[0], lambda node, value: fake_quantise(value, q) if node.output[0] == TENSOR else value)
    values = executor.values(pixels[0])
    got = executor.outputs_after(values, {TENSOR: fake_quantise(values[TENSOR], q)})
    for a, b in zip(wanted, got, strict=True):
        np.testing.assert_array_equal(b.numpy(), a)
    assert not np.array_equal(got[0].numpy(), values["class_logits"].numpy())


def test_the_rest_of_a_graph_gives_the_executors_outputs(parts) -> None:
    executor, table, pixels = parts
    values = executor.values(pixels[0])
    for name in (TENSOR, PAIRED, "backbone.conv_stem"):
        changed = fake_quantise(values[name], params_from_range(*table.ranges[name]))
        for wanted, got in zip(
            executor.outputs_after(values, {name: changed}),
            DownstreamGraph(executor, name, values)(values, changed),
            strict=True,
        ):
            np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_samples_come_in_the_order_of_channels_however_they_lie_in_memory() -> None:
    value = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4)
    last = value.to(memory_format=torch.channels_last)
    for share in (5, 100):
        assert _take_evenly(last, 3, share).tolist() == _take_evenly(value, 3, share).tolist()
    assert _take_evenly(last, 1, 5).tolist() == [1.0, 5.0, 9.0, 13.0, 17.0]


def test_a_ruined_range_is_mended_in_either_placement(parts, monkeypatch) -> None:
    executor, table, pixels = parts
    monkeypatch.setattr(refine, "SCORE", 1e-6)  # of a random network every anchor counts
    monkeypatch.setattr(refine, "WORST_DENSE", 2)
    monkeypatch.setattr(refine, "WORST_SPARSE", 2)
    monkeypatch.setattr(refine, "MOST_FRAMES", 2)
    low, high = table.ranges[TENSOR]
    ruined = replace(
        table,
        ranges={**table.ranges, TENSOR: (low, 30.0 * high)},
        magnitudes={**table.magnitudes, PAIRED: 30.0 * table.magnitudes[PAIRED]},
    )
    mended = refine_ranges(parts, ruined)
    assert mended.ranges[TENSOR] == pytest.approx((low, 0.35 * 30.0 * high))
    assert mended.magnitudes[PAIRED] == pytest.approx(0.35 * 30.0 * table.magnitudes[PAIRED])
    assert sum(mended.ranges[name] != ruined.ranges[name] for name in ruined.ranges) <= 2

    values = executor.values(pixels[1])
    everywhere = torch.ones(values["class_logits"].shape[:2], dtype=torch.bool)

    def error(q: QuantParams, name: str) -> float:
        return refine._compute_error(
            values, executor.outputs_after(values, {name: fake_quantise(values[name], q)}), everywhere
        )

    for form, name, before, after in (
        (params_from_range, TENSOR, ruined.ranges[TENSOR], mended.ranges[TENSOR]),
        (params_from_magnitude, PAIRED, (ruined.magnitudes[PAIRED],), (mended.magnitudes[PAIRED],)),
    ):
        assert error(form(*after), name) < 0.6 * error(form(*before), name)


def test_ends_beyond_what_was_seen_are_not_tried() -> None:
    table = CalibrationTable({"x": (-2.0, 4.0)}, {"x": 4.0}, {"x": (-2.1, 40.0)})
    ends = refine._list_ranges(table, "x")
    assert ends["high"] == [(-2.0, 4.0 * fraction) for fraction in refine.FRACTIONS]
    assert ends["low"] == [(-2.1, 4.0), *((-2.0 * fraction, 4.0) for fraction in (1.0, 0.7, 0.5, 0.35))]
    table = CalibrationTable({"x": (-0.1, 4.0)}, {}, {"x": (-0.1, 4.0)})
    assert set(refine._list_ranges(table, "x")) == {"high"}  # a twentieth of the range changes no step


def test_without_detections_the_table_stays(parts, monkeypatch) -> None:
    _, table, _ = parts
    monkeypatch.setattr(refine, "SCORE", 1.0 - 1e-9)
    assert refine_ranges(parts, table) is table


def test_range_movement_is_a_share_of_the_wider_range():
    first = {"a": (-1.0, 9.0), "b": (0.0, 4.0), "dead": (0.0, 0.0)}
    second = {"a": (-1.0, 8.0), "b": (0.0, 2.0), "dead": (0.0, 0.0)}
    assert measure_range_movement(first, second) == (pytest.approx(0.1), pytest.approx(0.5), "b")
