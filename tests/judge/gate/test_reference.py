"""The float model as the reference: how models are run on frames, and how many frames a verdict takes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from labelled_boxes import detected
from media import META

from edgedet.anchors import anchors_for
from edgedet.engines.fake import FakeEngine
from edgedet.judge.gate.perturbation import move_boxes_back, move_picture
from edgedet.judge.gate.pseudo_labels import detections_on
from edgedet.judge.gate.reference import BATCH, FloatReference, spread
from edgedet.judge.gate.verdict import PASSED, UNSURE
from edgedet.postprocess import DEFAULT_SCORE, ORIGINALS
from edgedet.types import ModelInput, RawOutputs

SPEC = META.spec  # 128 x 128, two classes


def frame(number=0):
    pixels = np.full((1, 128, 128, 3), number, dtype=np.uint8)
    return ModelInput(pixels, 1.0, (128, 128))


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


# --- frames in batches ------------------------------------------------------------------------------------------


def test_a_picture_moves_by_a_pixel_and_its_detections_back_by_it_in_the_source():
    picture = ModelInput(np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1).repeat(3, 3), 2.0, (8, 8))
    right = move_picture(picture, 1, 0).pixels[0, :, :, 0]
    np.testing.assert_array_equal(right[0], [0, 0, 1, 2])
    down = move_picture(picture, 0, 1).pixels[0, :, :, 0]
    np.testing.assert_array_equal(down[:, 0], [0, 0, 4, 8])
    back = move_boxes_back(detected((3, 4, 5, 6, 0.9, 0)), picture, 1, -1)
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
