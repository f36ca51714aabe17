"""The costs of an INT8 export's steps are those of the steps that it has, in their order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="needs the export extra")

from edgedet.calibration.ranges.frames import FrameSets
from edgedet.export.int8.files import SPARSE, TFLITE, TYPED
from edgedet.export.int8.options import Int8Options
from edgedet.export.int8.steps import RUNNING_FLOAT, costs_of_steps

FRAMES = FrameSets((None,) * 64, (None,) * 26, (None,) * 38, "clip.mp4", 128)  # type: ignore[arg-type]


def test_every_step_of_a_fast_export_has_its_cost() -> None:
    costs = costs_of_steps(Int8Options(), FRAMES, [SPARSE, TYPED, TFLITE])
    assert list(costs) == [
        RUNNING_FLOAT,
        "equalising depthwise channels",
        "observing",
        "choosing ranges",
        "ranking tensors",
        "judging ranges",
        "correcting biases",
        "comparing boxes' sizes, sparse",
        "judging on the select frames, sparse",
        "comparing boxes' sizes, dense",
        "judging on the select frames, dense",
        "judging .onnx",
        "judging _fp16.onnx",
        "judging .tflite",
    ]
    assert costs["observing"] == pytest.approx(64 * 0.2)
    assert costs[RUNNING_FLOAT] == pytest.approx(32 * 5 * 0.06)  # a batch, as it is and moved in four directions
    assert costs["judging .tflite"] == pytest.approx(2 * 2.0 + 32 * 0.04)


def test_a_table_without_recovery_leaves_the_judging() -> None:
    costs = costs_of_steps(Int8Options(recovery="none", table=SimpleNamespace()), FRAMES, [TFLITE])  # type: ignore[arg-type]
    assert list(costs) == [RUNNING_FLOAT, "judging on the select frames, dense", "judging .tflite"]


def test_labels_are_judged_on_in_several_runs() -> None:
    labels = SimpleNamespace(images=[None] * 100)
    costs = costs_of_steps(Int8Options(labels=labels), FRAMES, [TFLITE])  # type: ignore[arg-type]
    assert costs[RUNNING_FLOAT] == pytest.approx(100 * 0.06)
    assert costs["judging .tflite"] == pytest.approx(2 * 2.0 + 100 * 8 * 0.04)
