"""The store of events: a row of SQLite for each event, the files that belong to it, and rules for removing them.

SQLite keeps what was committed when the process is killed (write-ahead log), and with synchronous=FULL also when the
power goes. Used by one thread; readers open the file for themselves (``read_events``).
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..errors import InputError, UnavailableError
from ..files import unwritable
from .outbox import OUTBOX_TABLES, Message, add_messages
from .record import Event, as_json, from_json

DATABASE = "events.sqlite"
_VERSION = 1
_TABLES = """
create table if not exists events (
    id text primary key, camera text not null, label text not null, start_s real not null, end_s real,
    score real not null, record text not null, logged integer not null default 0
);
create index if not exists by_start on events (start_s);
create index if not exists still_open on events (id) where end_s is null or not logged;
create table if not exists files (event text not null, path text not null, primary key (event, path));
create index if not exists by_path on files (path);
"""


@dataclass(frozen=True)
class Retention:
    """How much is kept: no event that ended longer ago than ``days``, and no more than ``max_bytes`` of files."""

    days: Optional[float] = 14.0
    max_bytes: Optional[int] = None


class EventStore:
    """The events of a folder."""

    def __init__(self, folder: Path) -> None:
        """Open or create the folder's store; raises InputError where that fails or another version wrote it."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / DATABASE, timeout=10.0, isolation_level=None, check_same_thread=False)
            version = self._db.execute("pragma user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise InputError(
                    f"{folder / DATABASE} is of another version of edgedet ({version}): choose a new folder."
                )
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=full")
            self._db.executescript(_TABLES + OUTBOX_TABLES)
            self._db.execute(f"pragma user_version={_VERSION}")
        except sqlite3.Error as error:
            raise InputError(f"cannot use {folder / DATABASE}: {error}. Choose another folder.") from None
        except OSError as error:
            raise unwritable(folder, error) from None

    def put(self, event: Event, messages: Sequence[Message] = ()) -> None:
        """Write an event as ``put_all`` does."""
        self.put_all([(event, messages)])

    def put_all(self, news: Sequence[Tuple[Event, Sequence[Message]]]) -> None:
        """Write events as they are now and what is to be told of them, all or nothing, durably.

        Raises InputError where the disk takes nothing.
        """
        try:
            with self._db:
                self._db.execute("begin")
                for event, messages in news:
                    self._put(event, messages)
        except sqlite3.Error as error:
            raise UnavailableError(f"cannot write {self.folder / DATABASE}: {error}. Free space.") from None

    def _put(self, event: Event, messages: Sequence[Message]) -> None:
        record = json.dumps(as_json(event))
        files = [(event.id, path) for path in (event.snapshot, *event.clips) if path]
        self._db.execute(
            "insert into events (id, camera, label, start_s, end_s, score, record) values (?,?,?,?,?,?,?) "
            "on conflict (id) do update set end_s=excluded.end_s, score=excluded.score, record=excluded.record",
            (event.id, event.camera, event.label, event.start_s, event.end_s, event.best.score, record),
        )
        self._db.executemany("insert or ignore into files values (?, ?)", files)
        add_messages(self._db, messages)

    def close_left_open(self) -> List[Event]:
        """End the events that a killed run left open, where they were last seen, and return them."""
        rows = self._db.execute("select record from events where end_s is null order by id").fetchall()
        ended = []
        for (record,) in rows:
            event = from_json(json.loads(record))
            event = replace(event, end_s=event.seen_s, zones=(), ended_by="restart")
            self.put(event)
            ended.append(event)
        return ended

    def unlogged(self) -> List[Event]:
        """Return ended events that are not in the JSON lines yet."""
        rows = self._db.execute("select record from events where not logged and end_s is not null order by end_s")
        return [from_json(json.loads(record)) for (record,) in rows.fetchall()]

    def set_logged(self, event_ids: Sequence[str]) -> None:
        """Note that events are in the JSON lines."""
        self._db.executemany("update events set logged=1 where id=?", [(event_id,) for event_id in event_ids])

    def prune(self, retention: Retention, now_s: float) -> List[str]:
        """Remove ended events that are too old or too many, with the files that no other has; return ids."""
        ended = self._db.execute("select id, end_s from events where end_s is not null order by end_s, id").fetchall()
        removed = []
        total = None if retention.max_bytes is None else self._bytes_of_files()
        for event_id, end_s in ended:
            too_old = retention.days is not None and end_s < now_s - retention.days * 86400
            too_many = total is not None and retention.max_bytes is not None and total > retention.max_bytes
            if not (too_old or too_many):
                break
            freed = self._remove(event_id)
            total = None if total is None else total - freed
            removed.append(event_id)
        return removed

    def _remove(self, event_id: str) -> int:
        """Remove an event and the files that no other one has; return their bytes."""
        with self._db:
            self._db.execute("begin")
            self._db.execute("delete from events where id=?", (event_id,))
            paths = [
                path for (path,) in self._db.execute("select path from files where event=?", (event_id,)).fetchall()
            ]
            self._db.execute("delete from files where event=?", (event_id,))
        freed = 0
        for path in paths:
            if self._db.execute("select 1 from files where path=? limit 1", (path,)).fetchone() is None:
                freed += _size_of(self.folder / path)
                with suppress(OSError):
                    (self.folder / path).unlink()
        return freed

    def _bytes_of_files(self) -> int:
        paths = self._db.execute("select distinct path from files").fetchall()
        return sum(_size_of(self.folder / path) for (path,) in paths)

    def close(self) -> None:
        """Close the file."""
        self._db.close()


@dataclass(frozen=True)
class EventFilter:
    """Which events are asked for; None: all.

    zone: one that they were in; after_s, before_s: of the start, seconds since 1970.
    """

    camera: Optional[str] = None
    label: Optional[str] = None
    zone: Optional[str] = None
    after_s: Optional[float] = None
    before_s: Optional[float] = None

    def where(self) -> Tuple[str, List[Any]]:
        """Return the condition in SQL and its values."""
        conditions: List[Tuple[str, Any]] = [
            ("camera=?", self.camera),
            ("label=?", self.label),
            ("start_s>=?", self.after_s),
            ("start_s<?", self.before_s),
            ("exists (select 1 from json_each(record, '$.entered') where value=?)", self.zone),
        ]
        asked = [(text, value) for text, value in conditions if value is not None]
        return " and ".join(["1", *(text for text, _ in asked)]), [value for _, value in asked]


ALL_EVENTS = EventFilter()


def read_events(
    folder: Path, asked: EventFilter = ALL_EVENTS, limit: int = 100, older_than: Optional[str] = None
) -> List[Dict[str, Any]]:
    """Return events as JSON can hold them, the newest first.

    older_than: the id of the last event that was read, for the next page.
    All readers may be called from any thread, while a run writes. An empty list where nothing was ever stored.
    """
    where, values = asked.where()
    if older_than is not None:
        where += " and (start_s, id) < (select start_s, id from events where id=?)"
        values.append(older_than)
    query = f"select record from events where {where} order by start_s desc, id desc limit ?"
    return [json.loads(record) for (record,) in _read(folder, query, [*values, limit])]


def find_event(folder: Path, event_id: str) -> Optional[Dict[str, Any]]:
    """Return one event as ``read_events`` does, None where there is none of this id."""
    rows = _read(folder, "select record from events where id=?", [event_id])
    return json.loads(rows[0][0]) if rows else None


def count_events(folder: Path, asked: EventFilter, step_s: float) -> Dict[str, Dict[int, int]]:
    """Return by camera how many events began in each step of ``step_s`` seconds since ``asked.after_s``."""
    where, values = asked.where()
    step = "cast((start_s - ?) / ? as integer)"
    query = f"select camera, {step}, count(*) from events where {where} group by 1, 2 order by 1, 2"
    counts: Dict[str, Dict[int, int]] = {}
    for camera, step, count in _read(folder, query, [asked.after_s or 0.0, step_s, *values]):
        counts.setdefault(camera, {})[step] = count
    return counts


def known_values(folder: Path) -> Dict[str, List[str]]:
    """Return the "cameras", "labels" and "zones" of all events, sorted."""
    queries = {
        "cameras": "select distinct camera from events order by 1",
        "labels": "select distinct label from events order by 1",
        "zones": "select distinct value from events, json_each(record, '$.entered') order by 1",
    }
    return {name: [value for (value,) in _read(folder, query)] for name, query in queries.items()}


def _read(folder: Path, query: str, values: Sequence[Any] = ()) -> List[Tuple[Any, ...]]:
    path = folder / DATABASE
    if not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
            return db.execute(query, values).fetchall()
    except sqlite3.Error as error:
        if "no such table" in str(error):  # a run is just making the file
            return []
        raise InputError(f"cannot read {path}: {error}.") from None


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
