"""Messages on the disk that a broker has not confirmed yet, in the store's database.

A message is written in one transaction with the event that it tells of, so a killed process loses neither. While the
broker is away, a newer "update" takes the place of an older one of the same event, and the number of messages is
bounded: the oldest ones go, "update" before others, and are counted.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import List, Sequence, Tuple

MOST_MESSAGES = 10_000  # some 20 MB: a week of an event a minute

OUTBOX_TABLES = """
create table if not exists outbox (
    number integer primary key autoincrement, event text not null, kind text not null, topic text not null,
    payload blob not null, taken integer not null default 0
);
create table if not exists outbox_dropped (count integer not null);
insert into outbox_dropped select 0 where not exists (select 1 from outbox_dropped);
"""


@dataclass(frozen=True)
class Message:
    """What is told of an event: ``kind`` is "new", "update" or "end"."""

    event: str
    kind: str
    topic: str
    payload: bytes


def add_messages(db: sqlite3.Connection, messages: Sequence[Message], most: int = MOST_MESSAGES) -> None:
    """Queue messages, in the transaction that is open."""
    for message in messages:
        if message.kind == "update":
            db.execute(
                "delete from outbox where event=? and kind='update' and topic=? and not taken",
                (message.event, message.topic),
            )
        db.execute(
            "insert into outbox (event, kind, topic, payload) values (?,?,?,?)",
            (message.event, message.kind, message.topic, message.payload),
        )
    if not messages:
        return
    over = db.execute("select count(*) from outbox").fetchone()[0] - most
    for condition in ("kind='update'", "1"):
        if over > 0:
            gone = db.execute(
                f"delete from outbox where number in "
                f"(select number from outbox where {condition} and not taken order by number limit ?)",
                (over,),
            ).rowcount
            over -= gone
            db.execute("update outbox_dropped set count=count+?", (gone,))


def take_messages(db: sqlite3.Connection, after: int, limit: int) -> List[Tuple[int, Message]]:
    """Return the next messages with their numbers, which go up, and mark them as on their way."""
    with db:
        db.execute("begin immediate")
        rows = db.execute(
            "select number, event, kind, topic, payload from outbox where number>? order by number limit ?",
            (after, limit),
        ).fetchall()
        db.executemany("update outbox set taken=1 where number=?", [(row[0],) for row in rows])
    return [(row[0], Message(*row[1:])) for row in rows]


def confirm(db: sqlite3.Connection, number: int) -> None:
    """Forget a message that the broker has."""
    db.execute("delete from outbox where number=?", (number,))


def waiting(db: sqlite3.Connection) -> Tuple[int, int]:
    """Return how many messages wait, and how many were dropped since the store began."""
    count = db.execute("select count(*) from outbox").fetchone()[0]
    return int(count), int(db.execute("select count from outbox_dropped").fetchone()[0])
