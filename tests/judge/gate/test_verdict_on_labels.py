"""The verdict on labels: AP against pycocotools, the drop that is allowed, and labels that are no proof."""

from __future__ import annotations

import json

import numpy as np
import pytest
from labelled_boxes import detected, labelled, random_set

from edgedet.errors import InputError
from edgedet.judge.gate.verdict import FAILED, MIN_BOXES, PASSED, UNSURE
from edgedet.judge.gate.verdict_on_labels import foresee_on_labels, is_settled, verdict_on_labels
from edgedet.judge.matching import match_dataset
from edgedet.postprocess import DEFAULT_SCORE


def test_labels_that_tell_nothing_are_foreseen_in_the_words_of_the_verdict():
    for images, blind in ((5, False), (30, True)):
        pictures, detections = random_set(0, images=images)
        seen = [detected()] * images if blind else detections
        report = verdict_on_labels(pictures, seen, [seen], (0, 1, 2))
        foreseen = foresee_on_labels(pictures, seen, (0, 1, 2), report.score, 1.0)
        assert (foreseen.verdict, foreseen.reason, foreseen.remedy) == (UNSURE, report.reason, report.remedy)
    pictures, detections = random_set(0, images=30)
    assert foresee_on_labels(pictures, detections, (0, 1, 2), DEFAULT_SCORE, 1.0) is None


def test_with_labels_the_threshold_is_the_lowest_that_keeps_the_precision():
    """Float from 0.4 up: 2 right of 3. INT8 by falling score: right, wrong, right, wrong, right, wrong.

    Its precisions are 1, 1/2, 2/3, 1/2, 3/5, 1/2, so 2/3 is last kept at the third score.
    """
    image = labelled(*[(20 * n, 0, 20 * n + 10, 10, 0, 0) for n in range(4)])
    right = [(20 * n, 0, 20 * n + 10, 10) for n in range(4)]
    wrong = [(20 * n, 50, 20 * n + 10, 60) for n in range(4)]
    of_float = detected((*right[0], 0.9, 0), (*right[1], 0.8, 0), (*wrong[0], 0.5, 0), (*right[2], 0.3, 0))
    of_int8 = detected(
        (*right[0], 0.8, 0),
        (*wrong[0], 0.7, 0),
        (*right[1], 0.6, 0),
        (*wrong[1], 0.5, 0),
        (*right[2], 0.35, 0),
        (*wrong[2], 0.1, 0),
    )
    report = verdict_on_labels([image], [of_float], [[of_int8]], (0,), score=0.4)
    assert report.score_int8 == pytest.approx(0.6)
    assert (report.precision, report.recall) == (0.5, 0.5)  # at 0.4: 2 right of 4, of 4 labels


@pytest.mark.parametrize("seed", range(4))
def test_ap_is_pycocotools(seed):
    pytest.importorskip("pycocotools", reason="the oracle")
    from edgedet.judge.average_precision import compute_accuracy

    pictures, detections = random_set(seed)
    class_map = (0, -1, 2) if seed % 2 else (0, 1, 2)
    wanted = compute_accuracy(list(zip(pictures, detections, strict=True)), class_map, "abc").figures["AP"]
    assert 0.05 < wanted < 0.9
    got = match_dataset(pictures, detections, class_map).compute_ap(np.ones(len(pictures)))
    assert got == pytest.approx(wanted, abs=1e-12)


def test_a_weight_is_an_image_that_comes_as_often():
    """Where no two scores are equal within the copies' run, weights and copies agree; ties move it by little."""
    pictures, detections = random_set(1)
    weights = np.random.default_rng(0).multinomial(15, np.full(15, 1 / 15)).astype(float)
    copies = [at for at, weight in enumerate(weights) for _ in range(int(weight))]
    copied = match_dataset([pictures[at] for at in copies], [detections[at] for at in copies], (0, 1, 2))
    weighted = match_dataset(pictures, detections, (0, 1, 2)).compute_ap(weights)
    assert weighted == pytest.approx(copied.compute_ap(np.ones(len(copies))), abs=0.01)


def test_the_same_detections_keep_all_ap():
    pictures, detections = random_set(0, images=30)
    report = verdict_on_labels(pictures, detections, [detections], (0, 1, 2))
    assert (report.verdict, report.value, report.low) == (PASSED, 1.0, 1.0)
    assert report.required == pytest.approx(0.99)
    assert report.ap_float == report.ap_int8
    json.loads(json.dumps(report.to_dict(), allow_nan=False))


def test_a_drop_of_more_than_allowed_fails_and_is_named():
    """Every other image loses its boxes."""
    pictures, detections = random_set(0, images=30)
    poorer = [detected() if at % 2 else one for at, one in enumerate(detections)]
    report = verdict_on_labels(pictures, detections, [poorer], (0, 1, 2))
    assert report.verdict == FAILED
    assert report.low < report.value < 0.8
    assert f"AP {report.ap_int8:.4f} of {report.ap_float:.4f}" in report.line()
    assert verdict_on_labels(pictures, detections, [poorer], (0, 1, 2), max_drop_percent=90.0).verdict == PASSED


def test_few_labels_or_a_float_model_that_finds_nothing_are_no_proof():
    pictures, detections = random_set(0, images=5)
    report = verdict_on_labels(pictures, detections, [detections], (0, 1, 2))
    assert report.boxes < MIN_BOXES
    assert report.verdict == UNSURE
    pictures, detections = random_set(0, images=30)
    nothing = [detected()] * 30
    report = verdict_on_labels(pictures, nothing, [nothing], (0, 1, 2))
    assert (report.verdict, report.value, report.reason) == (UNSURE, None, "the float model's own AP is 0")


def test_labels_of_other_classes_and_detections_of_theirs_are_left_out():
    image = labelled((0, 0, 10, 10, 0, 0), (20, 0, 30, 10, 1, 0))
    got = detected((50, 50, 60, 60, 0.95, 1), (0, 0, 10, 10, 0.9, 0))
    judged = match_dataset([image], [got], (0, -1))
    assert judged.ground_truth_counts.sum() == 1
    assert judged.compute_ap(np.ones(1)) == pytest.approx(1.0)


def test_a_drop_that_is_no_percentage_is_refused():
    with pytest.raises(InputError, match="between 0 and 100 percent; got 100"):
        verdict_on_labels([], [], [[]], (0,), max_drop_percent=100)


def test_runs_over_labels_end_where_more_of_them_would_change_nothing():
    """Three APs that vary by 0.005 have a standard error of 0.003: 0.94 is far from 0.99, 0.985 is not."""
    assert is_settled([0.94, 0.945, 0.935], 0.99)
    assert is_settled([1.04, 1.045, 1.035], 0.99)
    assert not is_settled([0.985, 0.99, 0.98], 0.99)
    assert not is_settled([0.5, 0.5], 0.99)  # two runs are never enough
    assert not is_settled([0.98, 0.98, 0.98], 0.99)  # nor three that happen to agree
