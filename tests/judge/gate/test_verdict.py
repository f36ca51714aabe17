"""The verdict without labels: F1 and AP kept by hand, when it is not sure, thresholds and the bootstrap."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from labelled_boxes import detected, row_of_boxes

from edgedet.judge.agreement import match_boxes
from edgedet.judge.gate.perturbation import MOVES_XY
from edgedet.judge.gate.pseudo_labels import FloatRuns, PseudoLabels, mean_boxes
from edgedet.judge.gate.reference import FloatReference
from edgedet.judge.gate.verdict import (
    FAILED,
    MIN_BOXES,
    MIN_KEPT,
    PASSED,
    UNSURE,
    foresee_without_labels,
    verdict_without_labels,
)
from edgedet.postprocess import DEFAULT_SCORE


def compare(float_found, int8_found, score=0.4, seed=0):
    """The verdict where one pixel aside changes nothing that the float model detects."""
    runs = FloatRuns(list(float_found), [list(float_found)] * len(MOVES_XY), [])
    return verdict_without_labels(PseudoLabels(runs, score), float_found, int8_found, score, seed)


# --- figures without labels -------------------------------------------------------------------------------------


def test_f1_of_a_shifted_a_missing_and_an_extra_box():
    """IoU of a 10 x 10 box moved by 2 is 80 / 120: right. So TP 2, FP 1 (the extra), FN 1: F1 = 4 / 6."""
    wanted = detected((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.8, 0), (40, 0, 50, 10, 0.7, 1))
    got = detected((0, 0, 10, 10, 0.9, 0), (22, 0, 32, 10, 0.8, 0), (80, 0, 90, 10, 0.5, 1))
    report = compare([wanted], [got])
    assert (report.f1, report.precision, report.recall) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert report.boxes == 3


def test_one_float_box_is_found_once_and_the_best_score_takes_it():
    wanted = detected((0, 0, 10, 10, 0.9, 0))
    got = detected((1, 0, 11, 10, 0.8, 0), (0, 0, 10, 10, 0.7, 0))
    flags = match_boxes(got, wanted.boxes_xyxy, wanted.class_ids, np.zeros(1, bool), [0.5])
    np.testing.assert_array_equal(flags, [[1, 0]])
    assert compare([wanted], [got]).f1 == pytest.approx(2 / 3)  # TP 1, FP 1


def test_the_same_detections_keep_all_and_lost_ones_cost_their_share():
    """Of 100 equal boxes 7 are lost: recall ends at 0.93, with all that is detected right; AP counts 101 recalls."""
    rows = row_of_boxes(100)
    whole = compare([detected(*rows), detected()], [detected(*rows), detected()])
    assert (whole.verdict, whole.value) == (PASSED, pytest.approx(1.0))
    report = compare([detected(*rows), detected()], [detected(*rows[7:]), detected()])
    assert report.value == pytest.approx(94 / 101, abs=0.01)  # labels are scattered


@pytest.mark.parametrize(("lost", "verdict"), [(2, PASSED), (8, FAILED)])
def test_the_verdict_turns_at_the_limit(lost, verdict):
    """The last recall that is reached is 1 - lost / 100: 99 / 101 for 2 and 93 / 101 for 8."""
    rows = row_of_boxes(100)
    report = compare([detected(*rows), detected()], [detected(*rows[lost:]), detected()])
    assert report.value == pytest.approx((101 - lost) / 101, abs=0.01)
    assert (report.required, report.verdict) == (MIN_KEPT, verdict)


def test_a_dead_class_costs_its_share_of_all_classes():
    rows = [(20 * n, 0, 20 * n + 10, 10, 0.9 - 0.001 * n, n % 5) for n in range(100)]
    report = compare([detected(*rows), detected()], [detected(*[row for row in rows if row[5] != 3]), detected()])
    assert (report.verdict, report.value) == (FAILED, pytest.approx(4 / 5, abs=0.05))


@pytest.mark.parametrize("growth", [1.04, 0.96])
def test_boxes_that_all_grow_or_shrink_fail_whichever_way_labels_lie(growth):
    """Against labels a bit smaller or larger, sides 4 % off cost each IoU that they just reached."""

    def rows(side):
        return [(20 * n - side / 2, 0, 20 * n + side / 2, side, 0.9 - 0.001 * n, 0) for n in range(100)]

    report = compare([detected(*rows(10)), detected()], [detected(*rows(10 * growth)), detected()])
    assert report.f1 == 1.0
    assert report.verdict == FAILED


def test_what_a_pixel_aside_changes_is_not_asked_of_a_file():
    """The float model detects the first two of 60 objects in two of five runs: a mean of 0.36 makes them labels, and

    what it reaches itself, with moved pictures, is less than all.
    """
    rows, fewer = row_of_boxes(60), row_of_boxes(60)[2:]
    runs = FloatRuns([detected(*rows)], [[detected(*rows)], *[[detected(*fewer)]] * 3], [])
    labels = PseudoLabels(runs, 0.4)
    assert labels.count == 60
    kept = labels.kept_by([detected(*fewer)])
    assert kept(np.ones(1)) == pytest.approx((99 / 101 * 1) / ((1 + 3 * 98 / 101) / 4), abs=0.02)
    assert labels.kept_by([detected(*rows)])(np.ones(1)) > 1.0


def test_boxes_of_one_object_are_joined_and_weak_ones_left_out():
    first = detected((0, 0, 10, 10, 0.8, 0), (50, 0, 60, 10, 0.9, 1))
    second = detected((2, 0, 12, 10, 0.6, 0), (50, 0, 60, 10, 0.5, 0))
    boxes, class_ids = mean_boxes([first, second], 0.4)
    np.testing.assert_allclose(boxes, [[1, 0, 11, 10], [50, 0, 60, 10]])
    assert class_ids.tolist() == [0, 1]  # of the third, class 0 at 50, the mean score is 0.25


def test_boxes_below_the_users_score_do_not_count_in_f1():
    wanted = detected((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.3, 0))
    got = detected((0, 0, 10, 10, 0.9, 0), (60, 0, 70, 10, 0.3, 0))
    assert compare([wanted], [got], score=0.4).f1 == 1.0
    assert compare([wanted], [got], score=0.2).f1 == pytest.approx(0.5)  # TP 1, FP 1, FN 1


# --- when it is not sure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("boxes", "verdict"), [(MIN_BOXES - 1, UNSURE), (MIN_BOXES, PASSED)])
def test_fewer_than_fifty_boxes_are_no_proof(boxes, verdict):
    some = detected(*row_of_boxes(boxes))
    report = compare([some, detected()], [some, detected()])
    assert (report.verdict, report.value, report.boxes) == (verdict, pytest.approx(1.0), boxes)
    assert bool(report.reason) == bool(report.remedy) == (verdict == UNSURE)
    assert report.line().startswith(verdict)


def test_too_few_objects_are_answered_with_the_number_of_frames_that_lack():
    """Ten objects in four frames: twenty frames hold fifty, sixteen more."""
    frames = [detected(*row_of_boxes(2 + n % 2)) for n in range(4)]
    report = compare(frames, frames)
    assert report.reason == "the float model detects 10 objects in 4 frames, 50 are needed"
    assert report.remedy == "give about 16 more frames like these, or a lower --score"


def test_near_the_limit_it_asks_for_frames_or_labels():
    """Every second of 20 frames loses a tenth of its boxes: 0.95 kept, and the resampled frames vary by 0.01."""
    whole = [detected(*row_of_boxes(10, 0.9 - 0.01 * n)) for n in range(20)]
    poorer = [detected(*row_of_boxes(9, 0.9 - 0.01 * n)) if n % 2 else whole[n] for n in range(20)]
    report = compare(whole, poorer)
    assert report.verdict == UNSURE
    assert abs(report.value - MIN_KEPT) < 0.02
    assert "is too near 0.95 for 20 frames" in report.reason
    assert report.remedy.endswith("labels for 20 pictures (edgedet label makes them, --data takes them)")


def test_black_frames_in_which_nothing_is_found_are_no_proof():
    report = compare([detected()] * 3, [detected()] * 3)
    assert (report.verdict, report.value, report.low, report.score_int8) == (UNSURE, None, None, None)
    assert "0 objects" in report.reason
    assert "frames that show objects" in report.remedy
    json.loads(json.dumps(report.to_dict(), allow_nan=False))


def test_no_frame_is_no_proof():
    assert compare([], []).verdict == UNSURE
    verdict = FloatReference(lambda frames, score: [], [], DEFAULT_SCORE).judge(lambda frames, score: [])
    assert (verdict.verdict, verdict.reason) == (UNSURE, "no frame is left to judge on")


@pytest.mark.parametrize("boxes", [0, 10, MIN_BOXES - 1])
def test_too_few_objects_are_foreseen_in_the_words_of_the_verdict(boxes):
    some = detected(*row_of_boxes(boxes))
    report = compare([some, detected()], [some, detected()])
    foreseen = foresee_without_labels(report.boxes, report.images, report.score)
    assert (foreseen.verdict, foreseen.reason, foreseen.remedy) == (UNSURE, report.reason, report.remedy)
    assert (foreseen.figure, foreseen.required) == (report.figure, report.required)
    assert foresee_without_labels(MIN_BOXES, 2, DEFAULT_SCORE) is None


# --- bootstrap --------------------------------------------------------------------------------------------------


def noisy_pair(seed=0, images=12):
    """5 to 9 float boxes an image, of which a tenth is missing in INT8."""
    random = np.random.default_rng(seed)
    rows = [row_of_boxes(5 + at % 5) for at in range(images)]
    wanted = [detected(*of_image) for of_image in rows]
    got = [detected(*[row for row in of_image if random.random() > 0.1]) for of_image in rows]
    return wanted, got


def test_the_bootstrap_is_seeded_and_lies_below_the_figure():
    wanted, got = noisy_pair()
    first, again, other = (compare(wanted, got, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.low != other.low
    assert 0.8 < first.low < first.value
    assert first.low == pytest.approx(other.low, abs=0.02)


def test_a_single_image_has_no_spread():
    wanted, got = noisy_pair(images=1)
    report = compare(wanted, got)
    assert report.low == report.value


# --- threshold --------------------------------------------------------------------------------------------------


def test_without_labels_the_threshold_gives_as_many_boxes_as_the_float_model():
    """Three float boxes from 0.4 up; INT8 scores all come 0.1 lower: the third is 0.35, the fourth 0.2."""
    wanted = detected((0, 0, 9, 9, 0.8, 0), (20, 0, 29, 9, 0.6, 0), (40, 0, 49, 9, 0.45, 0), (60, 0, 69, 9, 0.3, 0))
    got = detected((0, 0, 9, 9, 0.7, 0), (20, 0, 29, 9, 0.5, 0), (40, 0, 49, 9, 0.35, 0), (60, 0, 69, 9, 0.2, 0))
    report = compare([wanted], [got], score=0.4)
    assert report.score_int8 == pytest.approx((0.35 + 0.2) / 2)
    assert report.recall == pytest.approx(2 / 3)


def test_without_enough_boxes_there_is_no_threshold():
    assert compare([detected(*row_of_boxes(3))], [detected(*row_of_boxes(2))]).score_int8 is None


def test_verdicts_are_frozen_and_printable():
    report = compare([detected(*row_of_boxes(60)), detected()], [detected(*row_of_boxes(60)), detected()])
    assert report.line() == (
        "PASSED: AP kept on the float model's detections 1.0000, at least 0.9500 passes; F1 1.000; "
        "5th percentile 1.0000; 60 boxes in 2 images; "
        f"score {report.score_int8:.3f} finds as many boxes as float at 0.4"
    )
    assert replace(report, score_int8=None).line().endswith("60 boxes in 2 images")
