"""The accuracy gate: F1 and AP by hand and against pycocotools, verdicts, thresholds and the bootstrap."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from media import META

from edgedet.anchors import anchors_for
from edgedet.engines.fake import FakeEngine
from edgedet.errors import InputError
from edgedet.judge.agreement import FAILED, MIN_BOXES, PASSED, UNVERIFIED, find, match
from edgedet.judge.gate import FLOOR_SHARE, compare, compare_on_labels
from edgedet.judge.labels import LabelledImage
from edgedet.judge.matching import Judged
from edgedet.postprocess import DEFAULT_SCORE
from edgedet.types import Detections, ModelInput, RawOutputs

SPEC = META.spec  # 128 x 128, two classes


def found(*rows):
    """Rows are (x1, y1, x2, y2, score, class id), best score first."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


def labelled(*rows):
    """Rows are (x1, y1, x2, y2, class id, ignored)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    areas = (table[:, 2] - table[:, 0]) * (table[:, 3] - table[:, 1])
    return LabelledImage(
        Path("x.png"), None, table[:, :4], table[:, 4].astype(np.int64), areas, table[:, 5].astype(bool)
    )


def frame(number=0):
    pixels = np.full((1, 128, 128, 3), number, dtype=np.uint8)
    return ModelInput(pixels, 1.0, (128, 128))


def row_of_boxes(count, score=0.9, shift=0.0):
    """``count`` boxes 10 x 10 side by side, scores falling by 0.001."""
    return [(20 * n + shift, 0, 20 * n + 10 + shift, 10, score - 0.001 * n, 0) for n in range(count)]


# --- F1 ---------------------------------------------------------------------------------------------------------


def test_f1_of_a_shifted_a_missing_and_an_extra_box():
    """IoU of a 10 x 10 box moved by 2 is 80 / 120: right. So TP 2, FP 1 (the extra), FN 1: F1 = 4 / 6."""
    wanted = found((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.8, 0), (40, 0, 50, 10, 0.7, 1))
    got = found((0, 0, 10, 10, 0.9, 0), (22, 0, 32, 10, 0.8, 0), (80, 0, 90, 10, 0.5, 1))
    report = compare([wanted], [got])
    assert (report.value, report.precision, report.recall) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert report.boxes == 3


def test_a_box_moved_too_far_or_of_another_class_is_wrong():
    wanted = found((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.8, 0))
    got = found((4, 0, 14, 10, 0.9, 0), (20, 0, 30, 10, 0.8, 1))  # IoU 60 / 140
    assert compare([wanted], [got]).value == 0.0


def test_one_float_box_is_found_once_and_the_best_score_takes_it():
    wanted = found((0, 0, 10, 10, 0.9, 0))
    got = found((1, 0, 11, 10, 0.8, 0), (0, 0, 10, 10, 0.7, 0))
    flags = match(got, wanted.boxes_xyxy, wanted.class_ids, np.zeros(1, bool), [0.5])
    np.testing.assert_array_equal(flags, [[1, 0]])
    assert compare([wanted], [got]).value == pytest.approx(2 / 3)  # TP 1, FP 1


def test_boxes_below_the_users_score_do_not_count():
    wanted = found((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.3, 0))
    got = found((0, 0, 10, 10, 0.9, 0), (60, 0, 70, 10, 0.3, 0))
    assert compare([wanted], [got], score=0.4).value == 1.0
    assert compare([wanted], [got], score=0.2).value == pytest.approx(0.5)  # TP 1, FP 1, FN 1


@pytest.mark.parametrize(("boxes", "verdict"), [(MIN_BOXES - 1, UNVERIFIED), (MIN_BOXES, PASSED)])
def test_fewer_than_fifty_boxes_are_no_proof(boxes, verdict):
    some = found(*row_of_boxes(boxes))
    report = compare([some, found()], [some, found()])
    assert (report.verdict, report.value, report.boxes) == (verdict, 1.0, boxes)
    assert bool(report.reason) == (verdict == UNVERIFIED)
    assert report.line().startswith(verdict)


@pytest.mark.parametrize(("missing", "verdict"), [(5, PASSED), (6, FAILED)])
def test_the_verdict_turns_at_f1_0_97(missing, verdict):
    """100 boxes, m missing: F1 = 2 (100 - m) / (200 - m): 0.9744 for 5, 0.9691 for 6."""
    rows = row_of_boxes(100)
    report = compare([found(*rows), found()], [found(*rows[missing:]), found()])
    assert report.value == pytest.approx(2 * (100 - missing) / (200 - missing))
    assert report.verdict == verdict


def test_black_frames_in_which_nothing_is_found_are_no_proof():
    report = compare([found()] * 3, [found()] * 3)
    assert (report.verdict, report.value, report.low, report.score_int8) == (UNVERIFIED, None, None, None)
    assert "0 boxes" in report.reason
    json.loads(json.dumps(report.to_dict(), allow_nan=False))


def test_no_frame_is_no_proof():
    assert compare([], []).verdict == UNVERIFIED


def test_int8_boxes_where_the_float_model_finds_none_lower_f1():
    wanted = found(*row_of_boxes(60))
    extra = found(*row_of_boxes(60))
    report = compare([wanted, found()], [wanted, extra])
    assert (report.verdict, report.value) == (FAILED, pytest.approx(120 / 180))


# --- runners ----------------------------------------------------------------------------------------------------


def gate(float_runner, int8_runner, spec, frames):
    """Two models' detections compared, as an export compares them."""
    floor = DEFAULT_SCORE * FLOOR_SHARE
    return compare(find(float_runner, spec, frames, floor), find(int8_runner, spec, frames, floor))


def constant_runner(logit, spec=SPEC):
    anchors = len(anchors_for(spec))
    raw = RawOutputs(np.full((anchors, spec.num_classes), logit, np.float32), np.zeros((anchors, 4), dtype=np.float32))
    return lambda pixels: raw


def test_an_all_zero_checkpoint_is_no_proof_though_both_models_agree():
    """Logits of 0 are scores of 0.5: a hundred equal boxes in every frame. With a trained bias there is none."""
    report = gate(constant_runner(0.0), constant_runner(0.0), SPEC, [frame(n) for n in range(3)])
    assert (report.verdict, report.value, report.boxes) == (UNVERIFIED, 1.0, 300)
    assert "does not look at the picture" in report.reason
    report = gate(constant_runner(-4.6), constant_runner(-4.6), SPEC, [frame(n) for n in range(3)])
    assert (report.verdict, report.boxes) == (UNVERIFIED, 0)


def test_runners_are_judged_in_pixels_of_the_source():
    """An 8 x 8 box of the input is 32 x 32 of a source four times as large; scores come back too."""
    boxes = [(0, 0.9, [8, 8, 16, 16]), (1, 0.6, [64, 32, 96, 64])]
    engine = FakeEngine(META, boxes)
    frames = [ModelInput(frame().pixels, 4.0, (512, 512))] * 2
    report = gate(engine.infer, FakeEngine(META, boxes[:1]).infer, SPEC, frames)
    assert (report.boxes, report.precision, report.recall) == (4, 1.0, 0.5)
    assert report.value == pytest.approx(2 / 3)


# --- bootstrap --------------------------------------------------------------------------------------------------


def noisy_pair(seed=0, images=12):
    """5 to 9 float boxes an image, of which a tenth is missing in INT8."""
    random = np.random.default_rng(seed)
    rows = [row_of_boxes(5 + at % 5) for at in range(images)]
    wanted = [found(*of_image) for of_image in rows]
    got = [found(*[row for row in of_image if random.random() > 0.1]) for of_image in rows]
    return wanted, got


def test_the_bootstrap_is_seeded_and_lies_below_the_figure():
    wanted, got = noisy_pair()
    first, again, other = (compare(wanted, got, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.low != other.low
    assert 0.8 < first.low < first.value
    assert first.low == pytest.approx(other.low, abs=0.01)


def test_a_single_image_has_no_spread():
    wanted, got = noisy_pair(images=1)
    report = compare(wanted, got)
    assert report.low == report.value


# --- threshold --------------------------------------------------------------------------------------------------


def test_without_labels_the_threshold_gives_as_many_boxes_as_the_float_model():
    """Three float boxes from 0.4 up; INT8 scores all come 0.1 lower: the third is 0.35, the fourth 0.2."""
    wanted = found((0, 0, 9, 9, 0.8, 0), (20, 0, 29, 9, 0.6, 0), (40, 0, 49, 9, 0.45, 0), (60, 0, 69, 9, 0.3, 0))
    got = found((0, 0, 9, 9, 0.7, 0), (20, 0, 29, 9, 0.5, 0), (40, 0, 49, 9, 0.35, 0), (60, 0, 69, 9, 0.2, 0))
    report = compare([wanted], [got], score=0.4)
    assert report.score_int8 == pytest.approx((0.35 + 0.2) / 2)
    assert report.recall == pytest.approx(2 / 3)


def test_without_enough_boxes_there_is_no_threshold():
    assert compare([found(*row_of_boxes(3))], [found(*row_of_boxes(2))]).score_int8 is None


def test_with_labels_the_threshold_is_the_lowest_that_keeps_the_precision():
    """Float from 0.4 up: 2 right of 3. INT8 by falling score: right, wrong, right, wrong, right, wrong.

    Its precisions are 1, 1/2, 2/3, 1/2, 3/5, 1/2, so 2/3 is last kept at the third score.
    """
    image = labelled(*[(20 * n, 0, 20 * n + 10, 10, 0, 0) for n in range(4)])
    right = [(20 * n, 0, 20 * n + 10, 10) for n in range(4)]
    wrong = [(20 * n, 50, 20 * n + 10, 60) for n in range(4)]
    of_float = found((*right[0], 0.9, 0), (*right[1], 0.8, 0), (*wrong[0], 0.5, 0), (*right[2], 0.3, 0))
    of_int8 = found(
        (*right[0], 0.8, 0), (*wrong[0], 0.7, 0), (*right[1], 0.6, 0), (*wrong[1], 0.5, 0), (*right[2], 0.35, 0),
        (*wrong[2], 0.1, 0),
    )  # fmt: skip
    report = compare_on_labels([image], [of_float], [[of_int8]], (0,), score=0.4)
    assert report.score_int8 == pytest.approx(0.6)
    assert (report.precision, report.recall) == (0.5, 0.5)  # at 0.4: 2 right of 4, of 4 labels


# --- AP ---------------------------------------------------------------------------------------------------------


def random_set(seed, images=15, classes=3):
    """Labels, some ignored, and detections of which most lie near a label; scores repeat."""
    random = np.random.default_rng(seed)
    pictures, detections = [], []
    for _ in range(images):
        corners = random.uniform(0, 400, (int(random.integers(0, 8)), 2))
        boxes = np.hstack([corners, corners + random.uniform(60, 150, corners.shape)])
        class_ids = random.integers(0, classes, len(boxes))
        ignored = random.random(len(boxes)) < 0.15
        pictures.append(labelled(*[(*b, c, i) for b, c, i in zip(boxes, class_ids, ignored, strict=True)]))
        near = np.repeat(boxes, 2, axis=0) + random.normal(0, 6, (2 * len(boxes), 4))
        far = random.uniform(0, 300, (4, 4))
        far[:, 2:] += far[:, :2]
        rows = np.vstack([near, far])
        scores = np.round(np.sort(random.uniform(0.02, 1, len(rows)))[::-1], 2)
        ids = np.append(np.repeat(class_ids, 2), random.integers(0, classes, 4))
        order = random.permutation(len(rows))
        detections.append(found(*[(*rows[k], s, ids[k]) for k, s in zip(order, scores, strict=True)]))
    return pictures, detections


@pytest.mark.parametrize("seed", range(4))
def test_ap_is_pycocotools(seed):
    pytest.importorskip("pycocotools", reason="the oracle")
    from edgedet.judge.average_precision import average_precision

    pictures, detections = random_set(seed)
    class_map = (0, -1, 2) if seed % 2 else (0, 1, 2)
    wanted = average_precision(list(zip(pictures, detections, strict=True)), class_map, "abc").figures["AP"]
    assert 0.05 < wanted < 0.9
    got = Judged.of(pictures, detections, class_map).average_precision(np.ones(len(pictures)))
    assert got == pytest.approx(wanted, abs=1e-12)


def test_a_weight_is_an_image_that_comes_as_often():
    """Where no two scores are equal within the copies' run, weights and copies agree; ties move it by little."""
    pictures, detections = random_set(1)
    weights = np.random.default_rng(0).multinomial(15, np.full(15, 1 / 15)).astype(float)
    copies = [at for at, weight in enumerate(weights) for _ in range(int(weight))]
    copied = Judged.of([pictures[at] for at in copies], [detections[at] for at in copies], (0, 1, 2))
    weighted = Judged.of(pictures, detections, (0, 1, 2)).average_precision(weights)
    assert weighted == pytest.approx(copied.average_precision(np.ones(len(copies))), abs=0.01)


def test_the_same_detections_keep_all_ap():
    pictures, detections = random_set(0, images=30)
    report = compare_on_labels(pictures, detections, [detections], (0, 1, 2))
    assert (report.verdict, report.value, report.low) == (PASSED, 1.0, 1.0)
    assert report.required == pytest.approx(0.99)
    assert report.ap_float == report.ap_int8
    json.loads(json.dumps(report.to_dict(), allow_nan=False))


def test_a_drop_of_more_than_allowed_fails_and_is_named():
    """Every other image loses its boxes."""
    pictures, detections = random_set(0, images=30)
    poorer = [found() if at % 2 else one for at, one in enumerate(detections)]
    report = compare_on_labels(pictures, detections, [poorer], (0, 1, 2))
    assert report.verdict == FAILED
    assert report.low < report.value < 0.8
    assert f"AP {report.ap_int8:.4f} of {report.ap_float:.4f}" in report.line()
    assert compare_on_labels(pictures, detections, [poorer], (0, 1, 2), max_drop_percent=90.0).verdict == PASSED


def test_few_labels_or_a_float_model_that_finds_nothing_are_no_proof():
    pictures, detections = random_set(0, images=5)
    report = compare_on_labels(pictures, detections, [detections], (0, 1, 2))
    assert report.boxes < MIN_BOXES
    assert report.verdict == UNVERIFIED
    pictures, detections = random_set(0, images=30)
    nothing = [found()] * 30
    report = compare_on_labels(pictures, nothing, [nothing], (0, 1, 2))
    assert (report.verdict, report.value, report.reason) == (UNVERIFIED, None, "the float model's own AP is 0")


def test_labels_of_other_classes_and_detections_of_theirs_are_left_out():
    image = labelled((0, 0, 10, 10, 0, 0), (20, 0, 30, 10, 1, 0))
    got = found((50, 50, 60, 60, 0.95, 1), (0, 0, 10, 10, 0.9, 0))
    judged = Judged.of([image], [got], (0, -1))
    assert judged.truths.sum() == 1
    assert judged.average_precision(np.ones(1)) == pytest.approx(1.0)


def test_a_drop_that_is_no_percentage_is_refused():
    with pytest.raises(InputError, match="between 0 and 100 percent; got 100"):
        compare_on_labels([], [], [[]], (0,), max_drop_percent=100)


def test_reports_are_frozen_and_printable():
    report = compare([found(*row_of_boxes(60)), found()], [found(*row_of_boxes(60)), found()])
    assert report.line() == (
        "PASSED: F1 1.0000, at least 0.9700 passes; at IoU 0.85 1.0000, likewise; "
        "5th percentile 1.0000; 60 boxes in 2 images; "
        f"score {report.score_int8:.3f} finds as many boxes as float at 0.4"
    )
    assert replace(report, score_int8=None).line().endswith("60 boxes in 2 images")


def test_boxes_that_moved_fail_although_they_are_all_found():
    """10 x 10 boxes moved by 1 overlap by 90 / 110 = 0.82: F1 1 at IoU 0.5, 0 at 0.85."""
    wanted = [(20 * index, 0, 20 * index + 10, 10, 0.9, 0) for index in range(60)]
    moved = [(x0 + 1, y0, x1 + 1, y1, score, label) for x0, y0, x1, y1, score, label in wanted]
    report = compare([found(*wanted), found()], [found(*moved), found()])
    assert (report.value, report.tight, report.verdict) == (1.0, 0.0, FAILED)


@pytest.mark.parametrize(("moved", "verdict"), [(3, PASSED), (4, FAILED)])
def test_three_moved_boxes_of_a_hundred_pass_and_four_fail(moved: int, verdict: str):
    """10 x 10 boxes moved by 1 are right at IoU 0.5 and wrong at 0.85: F1 0.97 and 0.96 there."""
    wanted = row_of_boxes(100)
    got = row_of_boxes(moved, shift=1.0) + wanted[moved:]
    report = compare([found(*wanted), found()], [found(*got), found()])
    assert (report.value, report.tight, report.verdict) == (1.0, 1.0 - moved / 100, verdict)
