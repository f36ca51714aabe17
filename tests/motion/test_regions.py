"""Boxes hold the objects that they touch, and those that are near share a region."""

import numpy as np

from edgedet.motion.regions import grow_boxes, hold_objects, join_near


def boxes(*rows):
    return np.array(rows, np.float64).reshape(-1, 4)


def test_box_holds_all_of_the_objects_that_it_touches():
    objects = boxes((8, 0, 30, 40), (28, 30, 60, 60), (200, 200, 210, 210))
    held = hold_objects(boxes((0, 0, 10, 10), (100, 100, 110, 110)), objects)
    assert held.tolist() == [[0, 0, 30, 40], [100, 100, 110, 110]]


def test_objects_alone_make_no_box():
    assert hold_objects(boxes(), boxes((8, 0, 30, 40))).shape == (0, 4)


def test_grown_boxes_stay_in_the_picture():
    grown = grow_boxes(boxes((0, 10, 40, 50)), 0.25, np.array([45, 100, 45, 100]))
    assert grown.tolist() == [[0, 0, 45, 60]]


def test_near_boxes_share_a_square_where_they_fit_and_a_box_in_another_is_none_of_its_own():
    near = join_near(boxes((0, 0, 50, 50), (60, 0, 100, 50), (300, 0, 540, 50), (310, 10, 320, 20)), 100)
    assert sorted(map(tuple, (box.tolist() for box in near))) == [(0, 0, 100, 50), (300, 0, 540, 50)]
    assert join_near(boxes(), 100) == []
