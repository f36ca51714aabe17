"""The Detector on a fake engine: geometry from source to source, thresholds, timings."""

from __future__ import annotations

import numpy as np
import pytest
from media import FAKE_BOXES, META, SOURCE_BOXES_XYXY, picture, write_fake_model

from edgedet import Detector
from edgedet.engines.fake import FakeEngine
from edgedet.errors import InputError, ShapeError
from edgedet.types import Frame

pytest.importorskip("cv2", reason="pictures are resized by OpenCV")


@pytest.fixture
def model(tmp_path):
    return write_fake_model(tmp_path / "model.fake")


def test_boxes_are_in_pixels_of_the_picture(model):
    """256 x 192 is halved for the 128 x 128 input, so the fake's boxes come back doubled."""
    found = Detector(model, threads=1)(picture(0))
    np.testing.assert_allclose(found.boxes_xyxy, SOURCE_BOXES_XYXY, atol=1e-3)
    np.testing.assert_allclose(found.scores, [0.9, 0.6], atol=1e-6)
    assert found.class_ids.tolist() == [0, 1]


def test_boxes_end_where_the_picture_ends(model):
    """A 256 x 96 strip fills 128 x 48 of the input; both boxes reach below it."""
    found = Detector(model, threads=1)(picture(0, (256, 96)))
    np.testing.assert_allclose(found.boxes_xyxy, [[32, 16, 96, 96], [128, 64, 192, 96]], atol=1e-3)


def test_the_score_decides(model):
    assert len(Detector(model, threads=1, score=0.7)(picture(0))) == 1
    assert len(Detector(model, threads=1, score=0.95)(picture(0))) == 0


def test_an_impossible_score_is_refused(model):
    with pytest.raises(InputError, match="between 0 and 1"):
        Detector(model, score=1.5)


def test_detect_tells_the_time_of_each_stage(model):
    frame = Frame(picture(0), captured_s=1.5, index=3)
    result = Detector(model, threads=1).detect(frame)
    assert result.frame is frame
    assert list(result.timings_ms) == ["preprocess", "network", "postprocess"]
    assert all(ms >= 0 for ms in result.timings_ms.values())


def test_a_grey_picture_is_refused(model):
    with pytest.raises(ShapeError, match="BGR"):
        Detector(model, threads=1)(np.zeros((4, 4), np.uint8))


def test_an_open_engine_can_be_used():
    detector = Detector((META, FakeEngine(META, FAKE_BOXES)), score=0.5)
    assert len(detector(picture(0))) == 2
    assert detector.class_names == ("person", "car")


def test_a_block_closes_the_engine():
    closed = []

    class Engine(FakeEngine):
        def close(self):
            closed.append(True)

    with Detector((META, Engine(META, FAKE_BOXES))) as detector:
        detector(picture(0))
    assert closed == [True]
