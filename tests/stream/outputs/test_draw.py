"""Annotated pictures: boxes where the detections are, labels within the picture, colours apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from media import picture

from edgedet.stream.outputs.draw import choose_colour, draw
from edgedet.types import Detections

pytest.importorskip("cv2", reason="OpenCV draws")


def detections(*boxes_xyxy, class_ids=None):
    n = len(boxes_xyxy)
    return Detections(
        np.array(boxes_xyxy, dtype=np.float32).reshape(n, 4),
        np.linspace(0.9, 0.5, n, dtype=np.float32),
        np.zeros(n, dtype=np.int64) if class_ids is None else np.array(class_ids),
    )


def test_the_box_is_drawn_in_the_colour_of_its_class():
    drawn = draw(picture(0), detections([100, 60, 200, 160], class_ids=[1]), ["a", "b"])
    for x, y in ((100, 110), (200, 110), (150, 160), (150, 60)):
        assert tuple(drawn[y, x]) == choose_colour(1)
    assert tuple(drawn[110, 150]) == (0, 0, 0)


def test_the_picture_itself_is_left_alone():
    original = picture(7)
    draw(original, detections([10, 10, 50, 50]), ["a"])
    assert (original == 7).all()


def test_nothing_found_is_an_equal_copy():
    original = picture(7)
    drawn = draw(original, detections(), ["a"])
    assert drawn is not original
    np.testing.assert_array_equal(drawn, original)


@pytest.mark.parametrize("size_wh", [(64, 48), (640, 480), (3840, 2160)])
@pytest.mark.parametrize("where", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_a_label_stays_within_the_picture(size_wh, where):
    """A box without area leaves the label alone: in every corner it has as many pixels as in the middle."""

    def label_pixels(x, y):
        box = np.array([x, y, x, y]) * (np.array(size_wh * 2) - 1)
        return np.count_nonzero((draw(picture(0, size_wh), detections(box), ["a"]) != 0).any(axis=2))

    in_the_middle = label_pixels(0.5, 0.5)
    assert in_the_middle > max(12, min(size_wh) / 42) ** 2  # wider and higher than its text
    assert label_pixels(*where) == pytest.approx(in_the_middle, rel=0.05)


def test_the_label_grows_with_the_picture():
    def height_of_label(size_wh):
        drawn = draw(picture(0, size_wh), detections(np.array([0.5, 0.5, 0.6, 0.6]) * (size_wh * 2)), ["person"])
        return np.count_nonzero((drawn != 0).any(axis=2).any(axis=1)) - 0.1 * size_wh[1]

    assert height_of_label((1920, 1080)) > 1.5 * height_of_label((640, 480))


def test_the_best_box_is_on_top():
    drawn = draw(picture(0), detections([50, 60, 150, 160], [50, 60, 150, 160], class_ids=[0, 1]), ["a", "b"])
    assert tuple(drawn[110, 50]) == choose_colour(0)


def test_classes_next_to_each_other_differ_in_colour():
    """All pairs of the first twelve ids differ by at least 40 in some channel."""
    for one, other in itertools.combinations(range(12), 2):
        assert max(abs(a - b) for a, b in zip(choose_colour(one), choose_colour(other), strict=True)) >= 40


def test_a_box_without_area_draws_without_harm():
    assert draw(picture(0), detections([256, 192, 256, 192]), ["a"]).shape == (192, 256, 3)
