"""Boxes, scores, NMS and its limits, computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgedet.anchors import anchors_for
from edgedet.errors import InputError, ShapeError
from edgedet.postprocess import (
    DEFAULT_RULES,
    MAX_CANDIDATES,
    ORIGINALS,
    SOFT_RULES,
    NmsRules,
    decode,
    logit_of,
    postprocess,
    rules_from_dict,
)
from edgedet.specs import SPECS
from edgedet.types import RawOutputs

# Anchors 10 high and 20 wide, side by side: the n-th reaches from x = 100 n.
ANCHORS = np.array([[0, 100 * n, 10, 100 * n + 20] for n in range(6)], dtype=np.float32)
CANVAS_HW = (1000, 1000)
OFF = -20.0  # a logit that says no


def raw_outputs(hits, codes=None, num_classes=3):
    """Return outputs that say no everywhere but at ``hits``: {(anchor, class): logit}."""
    logits = np.full((len(ANCHORS), num_classes), OFF, dtype=np.float32)
    for where, logit in hits.items():
        logits[where] = logit
    box_codes = np.zeros((len(ANCHORS), 4), dtype=np.float32)
    for anchor, code in (codes or {}).items():
        box_codes[anchor] = code
    return RawOutputs(logits, box_codes)


def found(raw, scale_to_source=1.0, source_hw=CANVAS_HW, **options):
    return postprocess(raw, ANCHORS, scale_to_source, source_hw, **options)


def test_zero_codes_give_the_anchor():
    detections = found(raw_outputs({(3, 2): 4.0}))
    np.testing.assert_allclose(detections.boxes_xyxy, [[300, 0, 320, 10]])
    np.testing.assert_allclose(detections.scores, [1 / (1 + math.exp(-4.0))], rtol=1e-6)
    assert detections.class_ids.tolist() == [2]
    assert detections.boxes_xyxy.dtype == detections.scores.dtype == np.float32
    assert detections.class_ids.dtype == np.int64


def test_codes_shift_by_the_anchors_sides_and_scale_by_exp():
    """ty 1 moves one height (10) down, tx 0.5 half a width (10) right; th ln 2 doubles the height, tw ln 3 triples."""
    code = np.array([[1.0, 0.5, math.log(2), math.log(3)]], dtype=np.float32)
    np.testing.assert_allclose(decode(code, ANCHORS[:1]), [[20 - 30, 15 - 10, 20 + 30, 15 + 10]], atol=1e-5)


def test_boxes_are_scaled_back_to_source_pixels():
    detections = found(raw_outputs({(1, 0): 4.0}), scale_to_source=2.5)
    np.testing.assert_allclose(detections.boxes_xyxy, [[250, 0, 300, 25]])


def test_boxes_are_clipped_to_the_source():
    """Moved half a height up, and a source that ends at x = 110."""
    detections = found(raw_outputs({(1, 0): 4.0}, {1: [-0.5, 0, 0, 0]}), source_hw=(50, 110))
    np.testing.assert_allclose(detections.boxes_xyxy, [[100, 0, 110, 5]])


def test_the_best_score_comes_first():
    detections = found(raw_outputs({(0, 0): 1.0, (1, 1): 3.0, (2, 0): 2.0}))
    assert detections.boxes_xyxy[:, 0].tolist() == [100, 200, 0]


def test_the_threshold_is_a_score():
    """sigmoid(0) = 0.5: above 0.49, not above 0.51."""
    raw = raw_outputs({(0, 0): 0.0})
    assert len(found(raw, score=0.49)) == 1
    assert len(found(raw, score=0.51)) == 0


def test_nothing_found_is_an_empty_result():
    for soft_nms in (False, True):
        detections = found(raw_outputs({}), rules=SOFT_RULES if soft_nms else DEFAULT_RULES)
        assert detections.boxes_xyxy.shape == (0, 4)
        assert len(detections) == 0


def test_one_anchor_may_hold_two_classes():
    detections = found(raw_outputs({(0, 0): 2.0, (0, 1): 1.0}))
    assert detections.class_ids.tolist() == [0, 1]


def shifted_pair(shift, classes=(0, 0)):
    """Return two boxes 10 x 20, the second moved right by ``shift`` pixels; the first scores better."""
    return raw_outputs({(0, classes[0]): 3.0, (1, classes[1]): 2.0}, {1: [0, (shift - 100) / 20, 0, 0]})


def test_iou_above_one_half_is_suppressed():
    """Shifted by 6 of 20 pixels: IoU = 14 / 26 = 0.54."""
    assert len(found(shifted_pair(6))) == 1


def test_iou_below_one_half_stays():
    """Shifted by 7 of 20 pixels: IoU = 13 / 27 = 0.48."""
    assert len(found(shifted_pair(7))) == 2


def test_iou_of_exactly_one_half_stays():
    """A box of half the width within the other: 100 / 200."""
    raw = raw_outputs({(0, 0): 3.0, (1, 0): 2.0}, {1: [0, -5.25, 0, math.log(0.5)]})
    assert len(found(raw)) == 2
    narrow = found(raw).boxes_xyxy[1]
    np.testing.assert_array_equal(narrow, [0, 0, 10, 10])  # exact, or the case proves nothing


def test_other_classes_do_not_suppress():
    assert len(found(shifted_pair(0, classes=(0, 1)))) == 2


def test_a_suppressed_box_suppresses_nothing():
    """B overlaps A, C overlaps B but not A: A and C stay."""
    raw = raw_outputs({(0, 0): 3.0, (1, 0): 2.0, (2, 0): 1.0}, {1: [0, -4.7, 0, 0], 2: [0, -9.4, 0, 0]})
    assert found(raw).boxes_xyxy[:, 0].round().tolist() == [0, 12]


def test_soft_nms_lowers_the_score_of_what_overlaps():
    """IoU 14 / 26 decays sigmoid(2) by exp(-IoU^2 / 0.5)."""
    detections = found(shifted_pair(6), rules=SOFT_RULES)
    decayed = 1 / (1 + math.exp(-2)) * math.exp(-((14 / 26) ** 2) / 0.5)
    np.testing.assert_allclose(detections.scores, [1 / (1 + math.exp(-3)), decayed], rtol=1e-5)


def test_soft_nms_drops_what_decays_below_the_score():
    """The decayed score above is 0.493."""
    assert len(found(shifted_pair(6), rules=SOFT_RULES, score=0.49)) == 2
    assert len(found(shifted_pair(6), rules=SOFT_RULES, score=0.50)) == 1


def test_soft_nms_leaves_other_classes_alone():
    detections = found(shifted_pair(6, classes=(0, 1)), rules=SOFT_RULES)
    np.testing.assert_allclose(detections.scores[1], 1 / (1 + math.exp(-2)), rtol=1e-6)


BEST_CLASS = NmsRules(candidates="anchors")


def test_by_the_best_class_rule_an_anchor_holds_one():
    """As zylo117 and automl: anchor 0 has two classes above the threshold, anchor 1 has one."""
    detections = found(raw_outputs({(0, 0): 2.0, (0, 1): 3.0, (1, 2): 1.0}), rules=BEST_CLASS)
    assert detections.class_ids.tolist() == [1, 2]


def test_of_equal_scores_the_first_class_is_the_best():
    """As argmax does."""
    assert found(raw_outputs({(0, 2): 2.0, (0, 1): 2.0}), rules=BEST_CLASS).class_ids.tolist() == [1]


def test_automls_soft_nms_decays_however_much_boxes_overlap():
    """TensorFlow's own iou_threshold of 0.5 has no part in it: IoU 18 / 22 decays by exp(-IoU^2 / 0.5)."""
    decayed = 1 / (1 + math.exp(-2)) * math.exp(-((18 / 22) ** 2) / 0.5)
    detections = found(shifted_pair(2), rules=ORIGINALS["automl"], score=0.01)
    np.testing.assert_allclose(detections.scores[1], decayed, rtol=1e-5)


def test_clipping_decides_what_overlaps():
    """Shifted by 8 of 20 pixels: IoU 12 / 28; in a picture that ends where the first does, 12 / 20."""
    raw = shifted_pair(8)
    assert len(found(raw, source_hw=(10, 20), rules=NmsRules(clip="nothing"))) == 2
    assert len(found(raw, source_hw=(10, 20), rules=NmsRules(clip="picture"))) == 1


def test_clipping_to_the_input_ends_at_its_last_pixel():
    """As zylo117's ClipBoxes: x at most width - 1 = 12; the box is cut there although the picture goes on."""
    raw = raw_outputs({(0, 0): 3.0})
    detections = found(raw, rules=ORIGINALS["zylo117"], input_hw=(128, 13))
    assert detections.boxes_xyxy.tolist() == [[0, 0, 12, 10]]


def test_without_nms_all_stay():
    assert len(found(shifted_pair(0), rules=NmsRules(method="none"))) == 2


def test_axes_may_be_scaled_back_each_by_its_own_factor():
    detections = found(raw_outputs({(1, 0): 4.0}), scale_to_source=(2.0, 3.0))
    np.testing.assert_allclose(detections.boxes_xyxy, [[200, 0, 240, 30]])


@pytest.mark.parametrize("wrong", [{"method": "medium"}, {"candidates": "all"}, {"max_iou": 0}, {"clip": "off"}])
def test_unknown_rules_are_refused(wrong):
    with pytest.raises(InputError):
        rules_from_dict(wrong)


def test_rules_of_a_newer_edgedet_are_refused_in_one_line():
    assert rules_from_dict(None) == DEFAULT_RULES
    with pytest.raises(InputError, match="these are no rules of post-processing"):
        rules_from_dict({"matrix": True})


@pytest.mark.parametrize("soft_nms", [False, True])
def test_at_most_100_boxes(soft_nms):
    anchors = np.array([[0, 30 * n, 10, 30 * n + 20] for n in range(150)], dtype=np.float32)
    logits = np.linspace(5, 4, 150, dtype=np.float32)[:, None]
    raw = RawOutputs(logits, np.zeros((150, 4), dtype=np.float32))
    detections = postprocess(raw, anchors, 1.0, (10, 5000), rules=SOFT_RULES if soft_nms else DEFAULT_RULES)
    assert detections.boxes_xyxy[:, 0].tolist() == [30 * n for n in range(100)]


def test_equal_scores_keep_the_order_of_the_anchors():
    anchors = np.array([[0, 30 * n, 10, 30 * n + 20] for n in range(100)], dtype=np.float32)
    raw = RawOutputs(np.repeat(np.float32([[2], [3]]), 50, axis=0), np.zeros((100, 4), dtype=np.float32))
    found = postprocess(raw, anchors, 1.0, (10, 5000))
    assert found.boxes_xyxy[:, 0].tolist() == [30 * n for n in (*range(50, 100), *range(50))]


def test_only_the_best_candidates_reach_nms():
    """60 copies of one box in 100 classes, class 0 the least sure: the 6000 pairs are cut to 83 classes and a third."""
    anchors = np.tile(ANCHORS[:1], (60, 1))
    logits = np.tile(np.linspace(1, 3, 100, dtype=np.float32), (60, 1))
    detections = postprocess(RawOutputs(logits, np.zeros((60, 4), np.float32)), anchors, 1.0, CANVAS_HW)
    assert 83 * 60 < MAX_CANDIDATES < 84 * 60
    assert detections.class_ids.tolist() == list(range(99, 15, -1))


def test_logits_in_every_block_of_the_scan_are_seen():
    """D0's 4.4 million logits are compared in blocks; hits on the first, the last and a block's edge."""
    anchors = anchors_for(SPECS["tf_efficientdet_d0"])
    logits = np.full((len(anchors), 90), OFF, dtype=np.float32)
    hits = [0, (1 << 18) - 1, 1 << 18, logits.size - 1]
    logits.reshape(-1)[hits] = [5, 4, 3, 2]
    detections = postprocess(RawOutputs(logits, np.zeros((len(anchors), 4), np.float32)), anchors, 1.0, (512, 512))
    assert detections.class_ids.tolist() == [hit % 90 for hit in hits]


def test_a_nan_is_no_detection():
    raw = raw_outputs({(0, 0): math.nan, (1, 0): 3.0, (2, 0): 2.0}, {1: [math.nan, 0, 0, 0]})
    assert found(raw).boxes_xyxy[:, 0].tolist() == [200]


def test_a_huge_code_becomes_the_whole_source():
    detections = found(raw_outputs({(0, 0): 3.0}, {0: [0, 0, 200, 200]}))
    assert detections.boxes_xyxy.tolist() == [[0, 0, 1000, 1000]]


@pytest.mark.parametrize("score", [0.0, 1.0, -0.1, 40, math.nan])
def test_a_threshold_out_of_range_is_refused(score):
    with pytest.raises(InputError, match="between 0 and 1"):
        logit_of(score)


def test_outputs_of_another_model_are_refused():
    with pytest.raises(ShapeError, match="6 boxes for 5 anchors"):
        postprocess(raw_outputs({}), ANCHORS[:5], 1.0, CANVAS_HW)
