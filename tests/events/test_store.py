"""Events in their store: found, read page by page, counted, removed with their files; unusable folders are refused."""

from dataclasses import replace

import pytest
from happened import some_event

from edgedet.errors import InputError
from edgedet.events.store import (
    EventFilter,
    EventStore,
    Retention,
    count_events,
    known_values,
    read_events,
)


def test_events_are_found_by_camera_label_zone_and_time(tmp_path):
    store = EventStore(tmp_path)
    for number, (camera, label, zone) in enumerate(
        [("door", "person", "yard"), ("door", "car", ""), ("gate", "car", "")]
    ):
        store.put(some_event(1000.0 + number, camera=camera, label=label, entered=(zone,) if zone else ()))
    assert [event["camera"] for event in read_events(tmp_path)] == ["gate", "door", "door"]  # newest first
    assert [event["label"] for event in read_events(tmp_path, EventFilter(camera="door"))] == ["car", "person"]
    assert [event["camera"] for event in read_events(tmp_path, EventFilter(label="car"))] == ["gate", "door"]
    assert [event["label"] for event in read_events(tmp_path, EventFilter(zone="yard"))] == ["person"]
    within = EventFilter(after_s=1001.0, before_s=1002.0)
    assert [event["start_s"] for event in read_events(tmp_path, within)] == [1001.0]
    assert len(read_events(tmp_path, limit=1)) == 1


def test_events_are_read_page_by_page_none_twice_and_none_left_out(tmp_path):
    """Five events, three of which begin at the same time, in pages of two."""
    store = EventStore(tmp_path)
    for start_s in (1000.0, 1001.0004, 1001.0004, 1001.0004, 1002.0):
        store.put(some_event(start_s))
    pages, last = [], None
    while page := read_events(tmp_path, limit=2, older_than=last):
        pages.append([event["id"] for event in page])
        last = pages[-1][-1]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert sum(pages, []) == [event["id"] for event in read_events(tmp_path)]


def test_events_are_counted_by_camera_and_step_and_what_is_known_is_named(tmp_path):
    store = EventStore(tmp_path)
    for start_s, camera, label, entered in (
        (1000.0, "door", "person", ("yard",)),
        (1299.9, "door", "car", ("yard", "gate")),
        (1300.0, "door", "car", ()),
        (1000.0, "street", "car", ()),
        (1600.0, "street", "car", ()),
    ):
        store.put(some_event(start_s, camera=camera, label=label, entered=entered))
    counts = count_events(tmp_path, EventFilter(after_s=1000.0, before_s=1600.0), 300.0)
    assert counts == {"door": {0: 2, 1: 1}, "street": {0: 1}}
    assert count_events(tmp_path, EventFilter(zone="gate", after_s=1000.0), 300.0) == {"door": {0: 1}}
    known = {"cameras": ["door", "street"], "labels": ["car", "person"], "zones": ["gate", "yard"]}
    assert known_values(tmp_path) == known
    assert known_values(tmp_path / "nothing") == {"cameras": [], "labels": [], "zones": []}


def with_files(folder, start_s, kilobytes, clip="", **changes):
    event = some_event(start_s, start_s + 1.0, **changes)
    snapshot = f"{event.id}.jpg"
    (folder / snapshot).write_bytes(bytes(kilobytes * 1000))
    if clip:
        (folder / clip).write_bytes(bytes(kilobytes * 1000))
    store = EventStore(folder)
    store.put(replace(event, snapshot=snapshot, clips=(clip,) if clip else ()))
    store.close()
    return event.id


def test_old_events_go_with_their_files(tmp_path):
    old, new = (with_files(tmp_path, day * 86400.0, 10) for day in (1, 10))
    store = EventStore(tmp_path)
    assert store.prune(Retention(days=5), now_s=12 * 86400.0) == [old]
    assert [event["id"] for event in read_events(tmp_path)] == [new]
    assert not (tmp_path / f"{old}.jpg").exists()
    assert (tmp_path / f"{new}.jpg").exists()


def test_oldest_events_go_until_the_rest_fits(tmp_path):
    ids = [with_files(tmp_path, 1000.0 + i, 10) for i in range(5)]
    assert EventStore(tmp_path).prune(Retention(days=None, max_bytes=25_000), now_s=2000.0) == ids[:3]
    assert sorted(path.stem for path in tmp_path.glob("*.jpg")) == sorted(ids[3:])


def test_clip_stays_while_another_event_needs_it(tmp_path):
    for start_s in (1000.0, 1001.0):
        with_files(tmp_path, start_s, 10, clip="both.mp4")
    store = EventStore(tmp_path)
    store.prune(Retention(days=None, max_bytes=29_000), now_s=2000.0)
    assert (tmp_path / "both.mp4").exists()
    store.prune(Retention(days=None, max_bytes=0), now_s=2000.0)
    assert list(tmp_path.glob("*.mp4")) == list(tmp_path.glob("*.jpg")) == []


def test_event_that_goes_on_is_never_removed(tmp_path):
    store = EventStore(tmp_path)
    store.put(some_event(1.0))
    assert store.prune(Retention(days=1, max_bytes=0), now_s=1e9) == []


def test_folder_of_another_version_is_refused(tmp_path):
    store = EventStore(tmp_path)
    store._db.execute("pragma user_version=7")
    store.close()
    with pytest.raises(InputError, match="another version"):
        EventStore(tmp_path)


def test_folder_that_cannot_be_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        EventStore(tmp_path / "file" / "events")
