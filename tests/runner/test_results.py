"""`edgedet.stream`, or `edgedet.run`: frames of files and of one's own, lazily; leaving the loop closes all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgedet
from edgedet import Detector
from edgedet.artifact import ArtifactMeta
from edgedet.engines.fake import FakeEngine, save_fake
from edgedet.errors import ClosedError, InputError, SourceError
from edgedet.runner import results
from edgedet.specs import resized, spec_for
from edgedet.stream.sources import open_source
from edgedet.types import Frame, FrameResult


def meta() -> ArtifactMeta:
    spec = resized(spec_for("tf_efficientdet_d0"), (128, 128))
    return ArtifactMeta(spec, tuple(f"class_{at}" for at in range(spec.num_classes)), "fp32", "0" * 64)


BOXES = [(0, 0.9, (16.0, 32.0, 80.0, 96.0)), (3, 0.45, (0.0, 0.0, 64.0, 64.0))]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_fake(tmp_path / "model.fake", meta(), BOXES)
    return tmp_path / "model.fake"


def test_each_picture_of_a_folder_comes_in_order(model: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("b", "a"):
        cv2.imwrite(str(tmp_path / f"photos/{name}.png"), np.zeros((128, 128, 3), np.uint8))
    found = list(edgedet.run(tmp_path / "photos", model))
    assert [Path(result.frame.name).name for result in found] == ["a.png", "b.png"]
    np.testing.assert_allclose(found[0].detections.boxes_xyxy[0], BOXES[0][2], atol=1e-3)


def test_pictures_and_frames_of_ones_own_are_taken_one_at_a_time(model: Path) -> None:
    asked = []

    def pictures() -> Iterator[Any]:
        for level in range(100):
            asked.append(level)
            yield np.full((64, 64, 3), level, np.uint8)

    running = edgedet.run(pictures(), model, score=0.5)
    assert asked == []
    first = next(iter(running))
    assert isinstance(first, FrameResult)
    assert (asked, len(first.detections)) == ([0], 1)
    (own,) = edgedet.run([Frame(np.zeros((64, 64, 3), np.uint8), 5.0, 7, "mine")], model)
    assert (own.frame.name, own.frame.index) == ("mine", 7)


def test_leaving_the_loop_closes_source_and_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    closed = []
    honest = results.open_source

    def watched(*arguments: Any) -> Any:
        source = honest(*arguments)
        close = source.close
        monkeypatch.setattr(source, "close", lambda: (closed.append("source"), close()))
        return source

    monkeypatch.setattr(results, "open_source", watched)
    monkeypatch.setattr(FakeEngine, "close", lambda self: closed.append("engine"))
    for _ in edgedet.run(tmp_path / "a.png", model):
        break
    assert closed == ["source", "engine"]


def test_a_detector_of_ones_own_stays_open(model: Path) -> None:
    with Detector(str(model)) as detector:
        for _ in range(2):
            assert len(list(edgedet.run([np.zeros((64, 64, 3), np.uint8)], detector))) == 1
        with pytest.raises(InputError, match="those of the Detector"):
            edgedet.run([], detector, score=0.3)
    with pytest.raises(ClosedError):
        list(edgedet.run([np.zeros((64, 64, 3), np.uint8)], detector))


def test_a_source_that_is_not_there_is_an_error(model: Path) -> None:
    with pytest.raises(SourceError):
        list(edgedet.run("nowhere.mp4", model))


def test_the_package_stream_is_the_function_also_after_its_modules_were_imported(model: Path) -> None:
    import edgedet.stream.sources

    running = edgedet.stream([np.zeros((64, 64, 3), np.uint8)] * 2, model)
    assert [result.frame.index for result in running] == [0, 1]
    assert edgedet.stream.sources.open_source is open_source
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = edgedet.nothing
