"""Detections are taken by mask, slice and position; anything else is refused."""

from __future__ import annotations

import numpy as np
import pytest

from edgedet import Detections
from edgedet.errors import ShapeError

FOUR = Detections(
    np.arange(16, dtype=np.float32).reshape(4, 4),
    np.array([0.9, 0.8, 0.7, 0.6], np.float32),
    np.array([2, 0, 1, 0], np.int64),
)


@pytest.mark.parametrize(
    ("index", "positions"),
    [
        (FOUR.scores >= 0.75, [0, 1]),
        ([True, False, False, True], [0, 3]),
        (slice(2), [0, 1]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        (np.array([3, 1]), [3, 1]),
        ([-1], [3]),
        ([], []),
        (np.zeros(4, bool), []),
    ],
    ids=["mask", "list of booleans", "slice", "reversed", "positions", "from the end", "none", "nothing passes"],
)
def test_an_index_takes_boxes_scores_and_classes_together(index, positions):
    taken = FOUR[index]
    np.testing.assert_array_equal(taken.boxes_xyxy, FOUR.boxes_xyxy[positions])
    np.testing.assert_array_equal(taken.scores, FOUR.scores[positions])
    np.testing.assert_array_equal(taken.class_ids, FOUR.class_ids[positions])
    assert len(taken) == len(positions)


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        (0, "indexed by a mask of booleans, a slice or an array of positions; got int64 of shape"),
        (np.array([0.0, 1.0]), "got float64"),
        (np.zeros((4, 1), bool), r"got bool of shape \(4, 1\)"),
        ([True, False], "a mask of 4 detections has as many values; got 2"),
        ([0, 4], "there are 4 detections; got positions 0 to 4"),
        ("scores", "got <U6"),
    ],
    ids=["number", "floats", "two dimensions", "short mask", "out of range", "name"],
)
def test_another_index_is_refused(index, complaint):
    with pytest.raises(ShapeError, match=complaint):
        FOUR[index]


def test_an_empty_one_has_the_right_types():
    nothing = Detections.empty()
    assert len(nothing) == 0
    assert (nothing.boxes_xyxy.shape, nothing.boxes_xyxy.dtype) == ((0, 4), np.float32)
    assert (nothing.scores.dtype, nothing.class_ids.dtype) == (np.float32, np.int64)
    assert len(nothing[nothing.scores > 0.5]) == 0
