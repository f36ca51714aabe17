"""Messages that wait on the disk."""

import sqlite3

import pytest

from edgedet.events.outbox import OUTBOX_TABLES, Message, add_messages, confirm, take_messages, waiting


@pytest.fixture
def db(tmp_path):
    opened = sqlite3.connect(tmp_path / "box.sqlite", isolation_level=None)
    opened.executescript(OUTBOX_TABLES)
    yield opened
    opened.close()


def message(event, kind, text=""):
    return Message(event, kind, "edgedet/events", f"{event} {kind} {text}".encode())


def kinds_of(db):
    return [(row[0], row[1]) for row in db.execute("select event, kind from outbox order by number")]


def test_messages_come_in_order_and_go_when_confirmed(db):
    add_messages(db, [message("a", "new"), message("a", "end"), message("b", "new")])
    taken = take_messages(db, 0, limit=2)
    assert [one.payload for _, one in taken] == [b"a new ", b"a end "]
    confirm(db, taken[0][0])
    assert kinds_of(db) == [("a", "end"), ("b", "new")]
    assert [one.event for _, one in take_messages(db, taken[-1][0], limit=10)] == ["b"]


def test_update_takes_the_place_of_one_that_still_waits(db):
    add_messages(db, [message("a", "new"), message("a", "update", 1), message("b", "update", 1)])
    add_messages(db, [message("a", "update", 2)])
    assert [row[0] for row in db.execute("select payload from outbox order by number")] == [
        b"a new ",
        b"b update 1",
        b"a update 2",
    ]


def test_update_on_its_way_stays(db):
    add_messages(db, [message("a", "update", 1)])
    take_messages(db, 0, limit=1)
    add_messages(db, [message("a", "update", 2)])
    assert waiting(db) == (2, 0)


def test_full_box_drops_updates_first_then_the_oldest_and_counts(db):
    for event in "abcde":
        add_messages(db, [message(event, "new"), message(event, "update"), message(event, "end")], most=12)
    assert waiting(db) == (12, 3)
    assert kinds_of(db)[:6] == [("a", "new"), ("a", "end"), ("b", "new"), ("b", "end"), ("c", "new"), ("c", "end")]
    for event in "fgh":
        add_messages(db, [message(event, "new"), message(event, "end")], most=12)
    assert waiting(db) == (12, 9)
    assert kinds_of(db)[0] == ("c", "new")
