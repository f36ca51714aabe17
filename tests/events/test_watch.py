"""When an event begins, changes and ends."""

import json

from walkers import CLASS_NAMES, crossing, result, walker

from edgedet.events.record import as_json, from_json
from edgedet.events.watch import Rules, Watcher
from edgedet.events.zones import Line, Zone

LEFT = Zone("left", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
RIGHT = Zone("right", ((0.5, 0), (1, 0), (1, 1), (0.5, 1)))
MIDDLE = Line("middle", (0.5, 1.0), (0.5, 0.0))


def changes_of(results, rules=None, utc_s=1_000_000.0):
    watcher = Watcher("door", CLASS_NAMES, rules or Rules())
    changes = [change for one in results for change in watcher.take(one, utc_s + one.frame.captured_s)]
    return changes + watcher.end()


def test_one_object_is_one_event_from_its_first_to_its_last_picture():
    changes = changes_of(crossing(seconds=3.0))
    assert [change.kind for change in changes] == ["new", "update", "update", "end"]
    assert len({change.event.id for change in changes}) == 1
    event = changes[-1].event
    assert (event.camera, event.label, event.ended_by) == ("door", "person", "gone")
    assert (event.start_s, event.end_s) == (1_000_000.0, 1_000_002.9)


def test_each_change_has_what_was_told_before():
    changes = changes_of(crossing(seconds=3.0))
    assert changes[0].before is None
    for before, after in zip(changes, changes[1:], strict=False):
        assert after.before == before.event


def test_zones_and_lines_are_told_when_they_happen_and_kept():
    changes = changes_of(crossing(seconds=3.0), Rules(places=(LEFT, RIGHT, MIDDLE)))
    event = changes[-1].event
    assert [(one.kind, one.place, one.direction) for one in event.moments] == [
        ("enter", "left", ""),
        ("leave", "left", ""),
        ("enter", "right", ""),
        ("cross", "middle", "forward"),
        ("leave", "right", ""),
    ]
    assert event.entered == ("left", "right")
    assert event.zones == ()
    told = [change.event.zones for change in changes]
    assert told[0] == ()
    assert ("left",) in told
    assert ("right",) in told


def test_path_goes_where_the_object_went():
    path = changes_of(crossing(seconds=3.0))[-1].event.path
    assert path[0] == (0.0, 0.05, 0.5)
    assert abs(path[-1][1] - 0.92) < 1e-6
    assert [x for _, x, _ in path] == sorted(x for _, x, _ in path)


def test_object_that_stands_has_a_short_path_and_an_update_a_second():
    changes = changes_of([result([walker(1, 0.5)], i / 10, i) for i in range(100)])
    assert len(changes[-1].event.path) == 1
    assert [change.kind for change in changes].count("update") == 9


def test_best_picture_is_the_surest_one():
    scores = [0.6, 0.61, 0.9, 0.7]
    changes = changes_of([result([walker(1, 0.5, score=score)], i / 10, i) for i, score in enumerate(scores)])
    assert [(change.kind, change.better) for change in changes] == [("new", True), ("update", True), ("end", False)]
    assert changes[-1].event.best.score == 0.9
    assert changes[-1].event.best.utc_s == 1_000_000.2


def test_classes_and_scores_that_are_not_wanted_make_no_event():
    rules = Rules(classes={"person": 0.7})
    assert changes_of([result([walker(1, 0.5, class_id=1)], i / 10) for i in range(5)], rules) == []
    assert changes_of([result([walker(1, 0.5, score=0.65)], i / 10) for i in range(5)], rules) == []
    late = changes_of([result([walker(1, 0.5, score=0.5 + i / 10)], i / 10) for i in range(5)], rules)
    assert late[0].event.start_s == 1_000_000.0  # it began when it was first seen


def test_event_of_a_required_zone_begins_there_and_keeps_what_was_before():
    changes = changes_of(crossing(seconds=3.0), Rules(places=(LEFT, RIGHT), required=("right",)))
    event = changes[0].event
    assert changes[0].kind == "new"
    assert event.zones == ("right",)
    assert event.entered == ("left", "right")
    assert (
        changes_of([result([walker(1, 0.2)], i / 10) for i in range(5)], Rules((LEFT, RIGHT), None, ("right",))) == []
    )


def test_track_that_is_lost_and_found_again_is_one_event():
    frames = [result([walker(1, 0.5, seen=i not in (3, 4, 5))], i / 10, i) for i in range(9)]
    assert [change.kind for change in changes_of(frames)] == ["new", "end"]


def test_event_survives_json():
    event = changes_of(crossing(), Rules(places=(LEFT, RIGHT, MIDDLE)))[-1].event
    record = json.loads(json.dumps(as_json(event)))
    assert json.loads(json.dumps(as_json(from_json(record)))) == record
