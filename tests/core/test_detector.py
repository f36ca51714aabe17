"""The Detector on a fake engine: geometry from source to source, thresholds, timings."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from media import FAKE_BOXES, META, SOURCE_BOXES_XYXY, picture, write_fake_model

from edgedet import Detections, Detector
from edgedet.artifact import ArtifactMeta
from edgedet.engines.base import open_engine
from edgedet.engines.fake import FakeEngine
from edgedet.errors import ArtifactError, ClosedError, InputError, ShapeError
from edgedet.postprocess import DEFAULT_RULES, ORIGINALS, SOFT_RULES, NmsRules
from edgedet.types import Frame

pytest.importorskip("cv2", reason="pictures are resized by OpenCV")

BEST_CLASS = NmsRules(candidates="anchors")


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


@pytest.mark.parametrize(
    ("picture", "complaint"),
    [
        (None, r"a picture is an array \(H, W, 3\) uint8 BGR; got NoneType, as cv2.imread gives where it cannot read"),
        ("photo.jpg", "a picture is an array .*; got str"),
        ([[[1, 2, 3]]], "a picture is an array .*; got list"),
        (np.zeros((4, 4, 3), np.float32), r"got \(4, 4, 3\) float32"),
        (np.zeros((4, 4, 4), np.uint8), r"got \(4, 4, 4\) uint8"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
    ],
    ids=["None", "name", "list", "float", "BGRA", "empty"],
)
def test_what_is_no_picture_is_refused_in_one_line(model, picture, complaint):
    with pytest.raises(InputError, match=complaint):
        Detector(model, threads=1)(picture)


def test_detect_wants_a_frame(model):
    with pytest.raises(InputError, match="detect takes a Frame; got ndarray. Call the detector with a picture"):
        Detector(model, threads=1).detect(picture(0))


def test_closing_twice_is_fine_and_a_closed_detector_says_so(model):
    detector = Detector(model, threads=1)
    detector.close()
    detector.close()
    with pytest.raises(ClosedError, match="this Detector was closed: make a new one"):
        detector(picture(0))


class SlowEngine(FakeEngine):
    """Counts the pictures that are at work at once, and those whose first pixel changed while they were."""

    def __init__(self):
        super().__init__(META, FAKE_BOXES)
        self.pictures_at_work = 0
        self.most_at_work = 0
        self.torn = 0
        self._pause = threading.Event()

    def infer(self, pixels):
        self.pictures_at_work += 1
        self.most_at_work = max(self.most_at_work, self.pictures_at_work)
        before = int(pixels[0, 0, 0, 0])
        self._pause.wait(0.002)
        self.torn += before != pixels[0, 0, 0, 0]
        self.pictures_at_work -= 1
        return super().infer(pixels)


def test_threads_may_share_a_detector():
    """Each picture is of one grey level; in a buffer that two threads fill at once it would change under the engine."""
    engine = SlowEngine()
    with Detector((META, engine)) as detector, ThreadPoolExecutor(3) as threads:
        results = list(threads.map(detector, [picture(level) for level in range(0, 240, 4)]))
    assert all(len(result) == 2 for result in results)
    assert (engine.most_at_work, engine.torn) == (1, 0)


def test_the_package_exports_what_a_detector_returns(model):
    assert isinstance(Detector(model, threads=1)(picture(0)), Detections)


def test_the_files_rules_are_followed_unless_others_are_named(tmp_path):
    """The fake's two boxes do not overlap; without a second class an anchor has one, so only the words differ here."""
    path = write_fake_model(tmp_path / "model.fake")
    meta, engine = open_engine(path, 1)
    soft = replace(meta, nms=SOFT_RULES)
    assert Detector((soft, engine)).nms == SOFT_RULES
    zylo117 = replace(meta, spec=replace(meta.spec, family="zylo117"))
    assert Detector((zylo117, engine)).nms == DEFAULT_RULES
    assert Detector((zylo117, engine), nms="original").nms == ORIGINALS["zylo117"]
    assert Detector((meta, engine), nms=BEST_CLASS).nms == BEST_CLASS
    finished = replace(meta, nms=NmsRules(method="none"))
    assert Detector((finished, engine), nms="original").nms == finished.nms  # its graph has done it
    for more in ({"soft_nms": True}, {"nms": BEST_CLASS}):
        with pytest.raises(InputError, match="the file's graph has applied NMS, so that .* would be a second one"):
            Detector((finished, engine), **more)
    with pytest.raises(InputError, match="nms takes NmsRules or 'original'; got 'best'"):
        Detector((meta, engine), nms="best")


def test_rules_survive_in_the_metadata_and_older_files_have_the_default():
    meta = replace(META, nms=ORIGINALS["automl"])
    assert ArtifactMeta.from_json(meta.to_json()).nms == ORIGINALS["automl"]
    old = json.loads(META.to_json())
    del old["nms"]
    old["format"] = 1
    assert ArtifactMeta.from_json(json.dumps(old)) == META
    for damaged in ({"method": "hard", "colour": "red"}, {"method": "loud"}):
        with pytest.raises(ArtifactError, match="is damaged"):
            ArtifactMeta.from_json(json.dumps({**old, "nms": damaged}))
