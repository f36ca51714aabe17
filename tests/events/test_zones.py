"""Zones and lines: entering, leaving, staying, crossing."""

import pytest

from edgedet.errors import InputError
from edgedet.events.zones import Crossing, Line, PlacesOf, Zone, standing_point

YARD = Zone("yard", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))
GATE = Line("gate", (0.5, 0.2), (0.5, 0.8))  # downwards: its left is the picture's right


def walk(places, points, label="person", score=0.9, step_s=0.1):
    where = PlacesOf(places)
    found = []
    for number, point in enumerate(points):
        found += [(number, crossing) for crossing in where.move(point, number * step_s, label, score)]
    return found, where


def test_point_in_a_concave_polygon():
    zone = Zone("L", ((0, 0), (0.2, 0), (0.2, 0.8), (1, 0.8), (1, 1), (0, 1)))
    assert zone.contains((0.1, 0.5))
    assert zone.contains((0.9, 0.9))
    assert not zone.contains((0.9, 0.5))


def test_zone_is_entered_and_left_by_the_second_frame():
    xs = [0.4, 0.6, 0.6, 0.6, 0.4, 0.4]
    found, where = walk([YARD], [(x, 0.5) for x in xs])
    assert found == [(2, Crossing("enter", "yard")), (5, Crossing("leave", "yard"))]
    assert where.zones == ()


def test_box_that_trembles_at_the_edge_enters_nothing():
    found, _ = walk([YARD], [(0.49 + 0.02 * (i % 2), 0.5) for i in range(20)])
    assert found == []


def test_dwelling_is_told_once_and_again_after_leaving():
    zone = Zone("yard", YARD.polygon, dwell_s=1.0)
    found, _ = walk([zone], [(0.7, 0.5)] * 40 + [(0.2, 0.5)] * 3 + [(0.7, 0.5)] * 20)
    assert [(number, one.kind) for number, one in found] == [
        (1, "enter"),
        (11, "dwell"),
        (41, "leave"),
        (44, "enter"),
        (54, "dwell"),
    ]


def test_zone_takes_its_classes_and_sure_objects_only():
    zone = Zone("yard", YARD.polygon, classes=frozenset({"car"}), score=0.7)
    inside = [(0.7, 0.5)] * 5
    assert walk([zone], inside, "person")[0] == []
    assert walk([zone], inside, "car", score=0.6)[0] == []
    assert [one.kind for _, one in walk([zone], inside, "car", score=0.8)[0]] == ["enter"]


def test_line_is_crossed_in_a_direction():
    to_the_right = [(0.1 * i, 0.5) for i in range(10)]
    assert [one for _, one in walk([GATE], to_the_right)[0]] == [Crossing("cross", "gate", "backward")]
    assert [one for _, one in walk([GATE], to_the_right[::-1])[0]] == [Crossing("cross", "gate", "forward")]


def test_line_ends_where_it_ends():
    assert walk([GATE], [(0.1 * i, 0.9) for i in range(10)])[0] == []


def test_box_that_trembles_on_a_line_crosses_nothing():
    assert walk([GATE], [(0.5 + 0.004 * (-1) ** i, 0.5) for i in range(20)])[0] == []


def test_what_is_lost_leaves_its_zones():
    _, where = walk([YARD], [(0.7, 0.5)] * 3)
    assert where.zones == ("yard",)
    assert where.end() == [Crossing("leave", "yard")]


def test_object_stands_at_the_lower_edge_of_its_box():
    assert standing_point((100, 50, 200, 240), (400, 480)) == (0.375, 0.5)


def test_object_that_the_picture_cuts_is_in_the_zone_at_its_edge():
    found, _ = walk([YARD], [standing_point((300, 200, 500, 480), (400, 480))] * 3)
    assert [one.kind for _, one in found] == ["enter"]


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Zone("a", ((0, 0), (1, 1))), "zone a wants 3 corners or more; got 2."),
        (lambda: Zone("a", ((0, 0), (640, 0), (1, 1))), "zone a wants points in shares"),
        (lambda: Zone("a", ((0, 0), (0.5, 0.5), (1, 1))), "zone a is empty"),
        (lambda: Line("b", (0.5, 0.5), (0.5, 0.5)), "line b has no length"),
    ],
)
def test_places_that_are_none_are_refused(make, line):
    with pytest.raises(InputError, match=line):
        make()
