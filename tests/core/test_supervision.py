"""Detections to supervision's and back."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgedet import Detections
from edgedet.errors import InputError, MissingDependency

FOUND = Detections(
    np.array([[1, 2, 30, 40], [5, 6, 7, 8]], np.float32), np.array([0.9, 0.4], np.float32), np.array([1, 0])
)


def test_boxes_scores_classes_and_names_survive() -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    theirs = FOUND.to_supervision(("person", "car"))
    assert isinstance(theirs, supervision.Detections)
    np.testing.assert_array_equal(theirs.xyxy, FOUND.boxes_xyxy)
    assert theirs["class_name"].tolist() == ["car", "person"]
    back = Detections.from_supervision(theirs[::-1])  # best score first again
    for name in ("boxes_xyxy", "scores", "class_ids"):
        np.testing.assert_array_equal(getattr(back, name), getattr(FOUND, name))
        assert getattr(back, name).dtype == getattr(FOUND, name).dtype


def test_no_detection_is_no_detection() -> None:
    pytest.importorskip("supervision", reason="supervision is not installed")
    assert len(Detections.from_supervision(Detections.empty().to_supervision(("person",)))) == 0


def test_detections_without_scores_or_classes_are_refused() -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    with pytest.raises(InputError, match="confidence and class_id"):
        Detections.from_supervision(supervision.Detections(np.zeros((1, 4))))


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependency, match="pip install supervision"):
        FOUND.to_supervision()
