"""The mean error of the sizes of an INT8 model's boxes is measured and taken out of its last biases."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgedet.types import Detections

torch = pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")

from models import random_pixels
from tflite_models import flat, outputs_of, random_graph, random_plan

from edgedet.calibration.placement.plan import DensePlan, SparsePlan
from edgedet.calibration.placement.table import CalibrationTable
from edgedet.calibration.quantise import Quantised
from edgedet.export.int8.centre import LEAST_PAIRS, Centring, SizeErrors, measure_size_errors
from edgedet.export.int8.files import TFLITE, Form
from edgedet.export.tflite.writer import tflite_from_graph
from edgedet.specs import SPECS

D0 = replace(SPECS["tf_efficientdet_d0"], num_classes=3, input_hw=(128, 160))


def _detections(boxes_xyxy: list[list[float]], scores: list[float], class_ids: list[int]) -> Detections:
    return Detections(np.array(boxes_xyxy, np.float32), np.array(scores, np.float32), np.array(class_ids, np.int64))


def test_errors_are_the_mean_over_pairs_by_the_square_of_their_scores() -> None:
    reference = [_detections([[0, 0, 100, 50], [200, 0, 300, 50]], [0.8, 0.4], [0, 0])]
    found = [_detections([[0, 0, 110, 50], [200, 0, 300, 50]], [0.8, 0.4], [0, 0])]
    errors = measure_size_errors(found, reference)
    assert errors.pairs == 2
    assert errors.width == pytest.approx(math.log(1.1) * 0.64 / 0.80)  # 0.8 ** 2 against 0.4 ** 2
    assert errors.height == pytest.approx(0.0, abs=1e-6)
    spread = math.hypot(0.64 * 0.2, 0.16 * 0.8) * math.log(1.1) / 0.80  # off the mean by 0.2 and 0.8 of ln 1.1
    assert errors.width_se == pytest.approx(spread, rel=1e-4)


def test_only_a_side_that_is_known_is_corrected() -> None:
    errors = SizeErrors(0.05, 0.01, 0.01, 0.01, LEAST_PAIRS)
    assert errors.correction() == (0.05, 0.0)
    assert "+5.1 % wide (corrected) and +1.0 % high (may be chance, so not corrected)" in errors.line()


@pytest.mark.parametrize(
    ("box", "score", "class_id"),
    [([0, 0, 100, 50], 0.8, 1), ([70, 0, 170, 50], 0.8, 0), ([0, 0, 100, 50], 0.05, 0)],
    ids=["another class", "elsewhere", "weak on both sides"],
)
def test_what_is_no_pair_does_not_count(box, score, class_id) -> None:
    reference = [_detections([[0, 0, 100, 50]], [min(score, 0.8)], [0])]
    assert measure_size_errors([_detections([box], [score], [class_id])], reference).pairs == 0


def test_frames_without_detections_have_no_errors() -> None:
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert measure_size_errors([nothing], [nothing]).pairs == 0


def test_few_pairs_change_nothing_and_say_so() -> None:
    errors = measure_size_errors([], [])
    assert errors.line() == (
        f"the sizes of boxes stay as they are, because there are 0 boxes to compare and {LEAST_PAIRS} are needed"
    )


class _Known(Centring):
    """Centring whose errors are given."""

    def __init__(self, errors: SizeErrors) -> None:
        self._errors = errors

    def errors(self, quantised: Quantised, form: Form) -> SizeErrors:
        return self._errors


def _outputs(plan: DensePlan) -> tuple[np.ndarray, np.ndarray]:
    """Return class logits (A, 3) and box codes (A, 4) of the file."""
    flatbuffer, names = tflite_from_graph(random_graph(D0), plan)
    levels = [
        (value.astype(np.float32) - plan.tensors[name].zero_point) * plan.tensors[name].scale
        for name, value in zip(names, outputs_of(flatbuffer, random_pixels(D0)), strict=True)
    ]
    logits, codes = flat(levels, D0.num_classes)
    return logits, codes


def test_the_file_s_boxes_change_by_the_errors() -> None:
    """Half a step of the outputs' own scales is what rounding may add; a few outputs end at -128 or 127."""
    plan = random_plan(D0)
    quantised = Quantised(random_graph(D0), CalibrationTable({}, {}), plan, SparsePlan({}, {}, {}), {})
    step = max(q.scale for name, q in plan.tensors.items() if ".predict.conv_pw" in name)
    errors = SizeErrors(2 * step, 3 * step, 0.6 * step, 0.9 * step, LEAST_PAIRS)
    centred, told = _Known(errors).centre(quantised, TFLITE)
    before, after = _outputs(plan), _outputs(centred.dense)
    assert told is errors
    moved = np.median(after[1] - before[1], axis=0)  # y, x, ln height, ln width
    np.testing.assert_allclose(moved, [0.0, 0.0, -3 * step, -2 * step], atol=0.6 * step)
    np.testing.assert_array_equal(after[0], before[0])


@pytest.mark.parametrize(
    "errors",
    [SizeErrors(0.1, 0.1, 0.01, 0.01, LEAST_PAIRS - 1), SizeErrors(0.1, 0.1, 0.034, 0.034, LEAST_PAIRS)],
    ids=["too few pairs", "within three standard errors"],
)
def test_an_error_that_may_be_chance_leaves_the_model_as_it_is(errors: SizeErrors) -> None:
    quantised = Quantised(random_graph(D0), CalibrationTable({}, {}), random_plan(D0), SparsePlan({}, {}, {}), {})
    result, _ = _Known(errors).centre(quantised, TFLITE)
    assert result is quantised
