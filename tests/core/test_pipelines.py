"""Whole pipelines against those of the code bases, on 20 photographs (scripts/make/pipeline_fixtures.py).

The network is the same on both sides; what stands before and behind it is theirs. "post" has our pre-processing, so the
boxes must be theirs to the last pixel; "whole" has theirs, which resizes in another way.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
cv2 = pytest.importorskip("cv2", reason="pictures are resized by OpenCV")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "make"))
import pipeline_fixtures as fixtures

from edgedet.anchors import anchors_for
from edgedet.export.checkpoints.checkpoint import network_from_checkpoint
from edgedet.export.verify import network_input
from edgedet.judge.agreement import match_boxes
from edgedet.postprocess import DEFAULT_RULES, ORIGINALS, SOFT_RULES, NmsRules, postprocess
from edgedet.preprocess import Preprocessor
from edgedet.types import Detections, RawOutputs

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden" / "pipelines.json").read_text(encoding="utf-8"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not fixtures.SHARED.is_dir(), reason="needs the photographs in ../shared"),
]
RULES = {
    ("effdet", "hard"): DEFAULT_RULES,
    ("effdet", "soft"): SOFT_RULES,
    ("zylo117", "hard"): ORIGINALS["zylo117"],
    ("automl", "hard"): NmsRules("anchors", clip="nothing"),
    ("automl", "soft"): ORIGINALS["automl"],
}
MODES = [pytest.param(family, mode, id=f"{family}-{mode}") for family, mode in RULES]


@cache
def checkpoint_and_network(name: str):
    checkpoint = fixtures.spec_of(name, "effdet")
    return checkpoint, network_from_checkpoint(checkpoint)


@cache
def raw_outputs(name: str, pixels: bytes) -> RawOutputs:
    """What a set's network gives of model input; the code bases share weights, and pixels where they round alike."""
    checkpoint, network = checkpoint_and_network(name)
    shape = (1, *checkpoint.spec.input_hw, 3)
    with torch.inference_mode():
        logits, codes = network(network_input(np.frombuffer(pixels, np.uint8).reshape(shape), checkpoint.spec))
    return RawOutputs(logits[0].numpy(), codes[0].numpy())


def detections(family: str, rules: NmsRules):
    """Yield photograph, what we find in it, and its size."""
    for name in fixtures.SETS:
        spec = fixtures.spec_of(name, family).spec
        preprocess, anchors_yxyx = Preprocessor(spec), anchors_for(spec)
        for path in fixtures.photographs(name):
            fitted = preprocess(cv2.imread(str(path)))
            found = postprocess(
                raw_outputs(name, fitted.pixels.tobytes()),
                anchors_yxyx,
                fitted.scale_to_source,
                fitted.source_hw,
                fixtures.SCORE,
                rules,
                spec.input_hw,
            )
            yield f"{name}/{path.name}", found, fitted.source_hw


def as_detections(rows: list[list[float]], source_hw: tuple[int, int]) -> Detections:
    """The code base's rows x1 y1 x2 y2 score class, cut to the picture as ours are."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes_xyxy = np.clip(table[:, :4], 0, np.float32([source_hw[1], source_hw[0]] * 2))
    return Detections(boxes_xyxy, table[:, 4], table[:, 5].astype(np.int64))


@pytest.mark.parametrize(("family", "mode"), MODES)
def test_post_processing_is_the_code_bases_own(family, mode):
    """Each box to 0.01 pixels and each score to 1e-4, which is what the golden file keeps; in the same order."""
    boxes = 0
    for photograph, found, source_hw in detections(family, RULES[family, mode]):
        expected = as_detections(GOLDEN[family][mode][photograph]["post"], source_hw)
        np.testing.assert_array_equal(found.class_ids, expected.class_ids)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, rtol=0, atol=0.01)
        boxes += len(expected)
    assert boxes > 50


def right_of(family: str, mode: str, rules: NmsRules) -> tuple[int, int, int]:
    """Return (right, found, expected) numbers of boxes, IoU 0.85, against the code base's whole pipeline."""
    numbers = np.zeros(3, int)
    for photograph, found, source_hw in detections(family, rules):
        expected = as_detections(GOLDEN[family][mode][photograph]["whole"], source_hw)
        flags = match_boxes(found, expected.boxes_xyxy, expected.class_ids, np.zeros(len(expected), dtype=bool), [0.85])
        numbers += int((flags == 1).sum()), len(found), len(expected)
    return tuple(numbers.tolist())


@pytest.mark.parametrize(("family", "mode"), MODES)
def test_the_whole_pipeline_finds_what_the_code_base_finds(family, mode):
    right, found, expected = right_of(family, mode, RULES[family, mode])
    assert 2 * right / (found + expected) > 0.98


def main() -> None:
    """Print boxes right of boxes by the default rules and by the code base's own."""
    for family, mode in RULES:
        own, default = right_of(family, mode, RULES[family, mode]), right_of(family, mode, DEFAULT_RULES)
        print(f"{family:8} {mode:5} right, found, expected: own rules {own}, default {default}")


if __name__ == "__main__":
    main()
