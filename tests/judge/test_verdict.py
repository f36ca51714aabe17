"""The accuracy gate: F1 and AP by hand and against pycocotools, verdicts, thresholds and the bootstrap."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from media import META

from edgedet.anchors import anchors_for
from edgedet.engines.fake import FakeEngine
from edgedet.errors import InputError
from edgedet.judge.agreement import match_boxes
from edgedet.judge.labels import LabelledImage
from edgedet.judge.matching import match_dataset
from edgedet.judge.perturbation import MOVES_XY, move_boxes_back, move_picture
from edgedet.judge.pseudo_labels import FloatRuns, PseudoLabels, detections_on, mean_boxes
from edgedet.judge.reference import BATCH, FloatReference, spread
from edgedet.judge.verdict import (
    FAILED,
    MIN_BOXES,
    MIN_KEPT,
    PASSED,
    UNSURE,
    foresee_without_labels,
    verdict_without_labels,
)
from edgedet.judge.verdict_on_labels import foresee_on_labels, is_settled, verdict_on_labels
from edgedet.postprocess import DEFAULT_SCORE, ORIGINALS
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


def compare(float_found, int8_found, score=0.4, seed=0):
    """The verdict where one pixel aside changes nothing that the float model detects."""
    runs = FloatRuns(list(float_found), [list(float_found)] * len(MOVES_XY), [])
    return verdict_without_labels(PseudoLabels(runs, score), float_found, int8_found, score, seed)


# --- figures without labels -------------------------------------------------------------------------------------


def test_f1_of_a_shifted_a_missing_and_an_extra_box():
    """IoU of a 10 x 10 box moved by 2 is 80 / 120: right. So TP 2, FP 1 (the extra), FN 1: F1 = 4 / 6."""
    wanted = found((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.8, 0), (40, 0, 50, 10, 0.7, 1))
    got = found((0, 0, 10, 10, 0.9, 0), (22, 0, 32, 10, 0.8, 0), (80, 0, 90, 10, 0.5, 1))
    report = compare([wanted], [got])
    assert (report.f1, report.precision, report.recall) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert report.boxes == 3


def test_one_float_box_is_found_once_and_the_best_score_takes_it():
    wanted = found((0, 0, 10, 10, 0.9, 0))
    got = found((1, 0, 11, 10, 0.8, 0), (0, 0, 10, 10, 0.7, 0))
    flags = match_boxes(got, wanted.boxes_xyxy, wanted.class_ids, np.zeros(1, bool), [0.5])
    np.testing.assert_array_equal(flags, [[1, 0]])
    assert compare([wanted], [got]).f1 == pytest.approx(2 / 3)  # TP 1, FP 1


def test_the_same_detections_keep_all_and_lost_ones_cost_their_share():
    """Of 100 equal boxes 7 are lost: recall ends at 0.93, with all that is detected right; AP counts 101 recalls."""
    rows = row_of_boxes(100)
    whole = compare([found(*rows), found()], [found(*rows), found()])
    assert (whole.verdict, whole.value) == (PASSED, pytest.approx(1.0))
    report = compare([found(*rows), found()], [found(*rows[7:]), found()])
    assert report.value == pytest.approx(94 / 101, abs=0.01)  # labels are scattered


@pytest.mark.parametrize(("lost", "verdict"), [(2, PASSED), (8, FAILED)])
def test_the_verdict_turns_at_the_limit(lost, verdict):
    """The last recall that is reached is 1 - lost / 100: 99 / 101 for 2 and 93 / 101 for 8."""
    rows = row_of_boxes(100)
    report = compare([found(*rows), found()], [found(*rows[lost:]), found()])
    assert report.value == pytest.approx((101 - lost) / 101, abs=0.01)
    assert (report.required, report.verdict) == (MIN_KEPT, verdict)


def test_a_dead_class_costs_its_share_of_all_classes():
    rows = [(20 * n, 0, 20 * n + 10, 10, 0.9 - 0.001 * n, n % 5) for n in range(100)]
    report = compare([found(*rows), found()], [found(*[row for row in rows if row[5] != 3]), found()])
    assert (report.verdict, report.value) == (FAILED, pytest.approx(4 / 5, abs=0.05))


@pytest.mark.parametrize("growth", [1.04, 0.96])
def test_boxes_that_all_grow_or_shrink_fail_whichever_way_labels_lie(growth):
    """Against labels a bit smaller or larger, sides 4 % off cost each IoU that they just reached."""

    def rows(side):
        return [(20 * n - side / 2, 0, 20 * n + side / 2, side, 0.9 - 0.001 * n, 0) for n in range(100)]

    report = compare([found(*rows(10)), found()], [found(*rows(10 * growth)), found()])
    assert report.f1 == 1.0
    assert report.verdict == FAILED


def test_what_a_pixel_aside_changes_is_not_asked_of_a_file():
    """The float model detects the first two of 60 objects in two of five runs: a mean of 0.36 makes them labels, and

    what it reaches itself, with moved pictures, is less than all.
    """
    rows, fewer = row_of_boxes(60), row_of_boxes(60)[2:]
    runs = FloatRuns([found(*rows)], [[found(*rows)], *[[found(*fewer)]] * 3], [])
    labels = PseudoLabels(runs, 0.4)
    assert labels.count == 60
    kept = labels.kept_by([found(*fewer)])
    assert kept(np.ones(1)) == pytest.approx((99 / 101 * 1) / ((1 + 3 * 98 / 101) / 4), abs=0.02)
    assert labels.kept_by([found(*rows)])(np.ones(1)) > 1.0


def test_boxes_of_one_object_are_joined_and_weak_ones_left_out():
    first = found((0, 0, 10, 10, 0.8, 0), (50, 0, 60, 10, 0.9, 1))
    second = found((2, 0, 12, 10, 0.6, 0), (50, 0, 60, 10, 0.5, 0))
    boxes, class_ids = mean_boxes([first, second], 0.4)
    np.testing.assert_allclose(boxes, [[1, 0, 11, 10], [50, 0, 60, 10]])
    assert class_ids.tolist() == [0, 1]  # of the third, class 0 at 50, the mean score is 0.25


def test_boxes_below_the_users_score_do_not_count_in_f1():
    wanted = found((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.3, 0))
    got = found((0, 0, 10, 10, 0.9, 0), (60, 0, 70, 10, 0.3, 0))
    assert compare([wanted], [got], score=0.4).f1 == 1.0
    assert compare([wanted], [got], score=0.2).f1 == pytest.approx(0.5)  # TP 1, FP 1, FN 1


# --- when it is not sure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("boxes", "verdict"), [(MIN_BOXES - 1, UNSURE), (MIN_BOXES, PASSED)])
def test_fewer_than_fifty_boxes_are_no_proof(boxes, verdict):
    some = found(*row_of_boxes(boxes))
    report = compare([some, found()], [some, found()])
    assert (report.verdict, report.value, report.boxes) == (verdict, pytest.approx(1.0), boxes)
    assert bool(report.reason) == bool(report.remedy) == (verdict == UNSURE)
    assert report.line().startswith(verdict)


def test_too_few_objects_are_answered_with_the_number_of_frames_that_lack():
    """Ten objects in four frames: twenty frames hold fifty, sixteen more."""
    frames = [found(*row_of_boxes(2 + n % 2)) for n in range(4)]
    report = compare(frames, frames)
    assert report.reason == "the float model detects 10 objects in 4 frames, 50 are needed"
    assert report.remedy == "give about 16 more frames like these, or a lower --score"


def test_near_the_limit_it_asks_for_frames_or_labels():
    """Every second of 20 frames loses a tenth of its boxes: 0.95 kept, and the resampled frames vary by 0.01."""
    whole = [found(*row_of_boxes(10, 0.9 - 0.01 * n)) for n in range(20)]
    poorer = [found(*row_of_boxes(9, 0.9 - 0.01 * n)) if n % 2 else whole[n] for n in range(20)]
    report = compare(whole, poorer)
    assert report.verdict == UNSURE
    assert abs(report.value - MIN_KEPT) < 0.02
    assert "is too near 0.95 for 20 frames" in report.reason
    assert report.remedy.endswith("labels for 20 pictures (edgedet label makes them, --data takes them)")


def test_black_frames_in_which_nothing_is_found_are_no_proof():
    report = compare([found()] * 3, [found()] * 3)
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
    some = found(*row_of_boxes(boxes))
    report = compare([some, found()], [some, found()])
    foreseen = foresee_without_labels(report.boxes, report.images, report.score)
    assert (foreseen.verdict, foreseen.reason, foreseen.remedy) == (UNSURE, report.reason, report.remedy)
    assert (foreseen.figure, foreseen.required) == (report.figure, report.required)
    assert foresee_without_labels(MIN_BOXES, 2, DEFAULT_SCORE) is None


def test_labels_that_tell_nothing_are_foreseen_in_the_words_of_the_verdict():
    for images, blind in ((5, False), (30, True)):
        pictures, detections = random_set(0, images=images)
        seen = [found()] * images if blind else detections
        report = verdict_on_labels(pictures, seen, [seen], (0, 1, 2))
        foreseen = foresee_on_labels(pictures, seen, (0, 1, 2), report.score, 1.0)
        assert (foreseen.verdict, foreseen.reason, foreseen.remedy) == (UNSURE, report.reason, report.remedy)
    pictures, detections = random_set(0, images=30)
    assert foresee_on_labels(pictures, detections, (0, 1, 2), DEFAULT_SCORE, 1.0) is None


# --- runners ----------------------------------------------------------------------------------------------------


def gate(float_runner, int8_runner, frames):
    """Two models' detections compared, as an export compares them."""
    return FloatReference(detects(float_runner), frames, DEFAULT_SCORE).judge(detects(int8_runner))


def detects(runner, meta=META):
    return partial(detections_on, runner, meta)


def both_classes_runner(anchor=60):
    """One anchor whose classes score 0.88 and 0.73."""
    raw = constant_runner(-9.0)(None)
    raw.class_logits[anchor] = [1.0, 2.0]
    return lambda pixels: raw


def test_judging_follows_the_post_processing_of_the_file():
    """zylo117 keeps the best class of an anchor, effdet both: each file is judged by what its user will see."""
    runner = both_classes_runner()
    theirs = replace(META, nms=ORIGINALS["zylo117"])
    assert detections_on(runner, META, [frame()], 0.4)[0].class_ids.tolist() == [1, 0]
    assert detections_on(runner, theirs, [frame()], 0.4)[0].class_ids.tolist() == [1]
    reference = FloatReference(detects(runner, theirs), [frame()], 0.4)
    assert reference.detections(1)[0].class_ids.tolist() == [1]
    assert reference.judge(detects(runner, theirs)).boxes == 1


def constant_runner(logit, spec=SPEC):
    anchors = len(anchors_for(spec))
    raw = RawOutputs(np.full((anchors, spec.num_classes), logit, np.float32), np.zeros((anchors, 4), dtype=np.float32))
    return lambda pixels: raw


def test_an_all_zero_checkpoint_is_no_proof_though_both_models_agree():
    """Logits of 0 are scores of 0.5: a hundred equal boxes in every frame. With a trained bias there is none."""
    report = gate(constant_runner(0.0), constant_runner(0.0), [frame(n) for n in range(3)])
    assert (report.verdict, report.boxes) == (UNSURE, 300)
    assert "does not look at the picture" in report.reason
    report = gate(constant_runner(-4.6), constant_runner(-4.6), [frame(n) for n in range(3)])
    assert (report.verdict, report.boxes) == (UNSURE, 0)


def test_runners_are_judged_in_pixels_of_the_source():
    """An 8 x 8 box of the input is 32 x 32 of a source four times as large; scores come back too."""
    boxes = [(0, 0.9, [8, 8, 16, 16]), (1, 0.6, [64, 32, 96, 64])]
    engine = FakeEngine(META, boxes)
    frames = [ModelInput(frame().pixels, 4.0, (512, 512))] * 2
    report = gate(engine.infer, FakeEngine(META, boxes[:1]).infer, frames)
    assert (report.boxes, report.precision, report.recall) == (4, 1.0, 0.5)
    assert report.f1 == pytest.approx(2 / 3)


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
    assert first.low == pytest.approx(other.low, abs=0.02)


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
    poorer = [found() if at % 2 else one for at, one in enumerate(detections)]
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
    nothing = [found()] * 30
    report = verdict_on_labels(pictures, nothing, [nothing], (0, 1, 2))
    assert (report.verdict, report.value, report.reason) == (UNSURE, None, "the float model's own AP is 0")


def test_labels_of_other_classes_and_detections_of_theirs_are_left_out():
    image = labelled((0, 0, 10, 10, 0, 0), (20, 0, 30, 10, 1, 0))
    got = found((50, 50, 60, 60, 0.95, 1), (0, 0, 10, 10, 0.9, 0))
    judged = match_dataset([image], [got], (0, -1))
    assert judged.ground_truth_counts.sum() == 1
    assert judged.compute_ap(np.ones(1)) == pytest.approx(1.0)


def test_a_drop_that_is_no_percentage_is_refused():
    with pytest.raises(InputError, match="between 0 and 100 percent; got 100"):
        verdict_on_labels([], [], [[]], (0,), max_drop_percent=100)


def test_verdicts_are_frozen_and_printable():
    report = compare([found(*row_of_boxes(60)), found()], [found(*row_of_boxes(60)), found()])
    assert report.line() == (
        "PASSED: AP kept on the float model's detections 1.0000, at least 0.9500 passes; F1 1.000; "
        "5th percentile 1.0000; 60 boxes in 2 images; "
        f"score {report.score_int8:.3f} finds as many boxes as float at 0.4"
    )
    assert replace(report, score_int8=None).line().endswith("60 boxes in 2 images")


def test_runs_over_labels_end_where_more_of_them_would_change_nothing():
    """Three APs that vary by 0.005 have a standard error of 0.003: 0.94 is far from 0.99, 0.985 is not."""
    assert is_settled([0.94, 0.945, 0.935], 0.99)
    assert is_settled([1.04, 1.045, 1.035], 0.99)
    assert not is_settled([0.985, 0.99, 0.98], 0.99)
    assert not is_settled([0.5, 0.5], 0.99)  # two runs are never enough
    assert not is_settled([0.98, 0.98, 0.98], 0.99)  # nor three that happen to agree


# --- frames in batches ------------------------------------------------------------------------------------------


def test_a_picture_moves_by_a_pixel_and_its_detections_back_by_it_in_the_source():
    picture = ModelInput(np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1).repeat(3, 3), 2.0, (8, 8))
    right = move_picture(picture, 1, 0).pixels[0, :, :, 0]
    np.testing.assert_array_equal(right[0], [0, 0, 1, 2])
    down = move_picture(picture, 0, 1).pixels[0, :, :, 0]
    np.testing.assert_array_equal(down[:, 0], [0, 0, 4, 8])
    back = move_boxes_back(found((3, 4, 5, 6, 0.9, 0)), picture, 1, -1)
    np.testing.assert_array_equal(back.boxes_xyxy, [[1, 6, 3, 8]])


def test_no_more_frames_are_taken_than_a_sure_verdict_needs():
    """Two boxes a frame: the first batch of 32 frames holds 64; of one box a frame, two batches are needed."""
    boxes = [(0, 0.9, [8, 8, 16, 16]), (1, 0.6, [64, 32, 96, 64])]
    frames = [ModelInput(np.full((1, 128, 128, 3), n, np.uint8), 1.0, (128, 128)) for n in range(100)]
    asked: list[int] = []

    def runner(rows):
        engine = FakeEngine(META, rows)

        def infer(pixels):
            asked.append(int(pixels[0, 0, 0, 0]))
            raw = engine.infer(pixels)
            logits = raw.class_logits + np.float32(0.001 * asked[-1])  # it looks at the picture
            return RawOutputs(logits, raw.box_codes)

        return infer

    notes: list[str] = []
    reference = FloatReference(detects(runner(boxes)), frames, 0.4, notes.append)
    assert asked == []
    verdict = reference.judge(detects(runner(boxes)))
    assert (verdict.verdict, verdict.images, max(asked), notes) == (PASSED, BATCH, BATCH - 1, [])
    before = len(asked)
    reference.judge(detects(runner(boxes)))
    assert len(asked) == before + BATCH  # the float model's detections are kept

    verdict = FloatReference(detects(runner(boxes[:1])), frames, 0.4, notes.append).judge(detects(runner(boxes[:1])))
    assert (verdict.verdict, verdict.images) == (PASSED, 2 * BATCH)
    assert notes == [
        "not sure with 32 frames (the float model detects 32 objects in 32 frames, 50 are needed): taking more of them"
    ]


def test_the_first_batch_is_spread_over_all_frames():
    frames = [frame(n) for n in range(70)]
    order = [int(one.pixels[0, 0, 0, 0]) for one in spread(frames)]
    assert sorted(order) == list(range(70))
    assert order[:3] == [0, 2, 4]
