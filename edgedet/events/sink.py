"""Events as an output of a run: watches every camera, and lets a thread of its own write pictures, videos and records.

The thread has little priority, and frames that it has no time for are left out of the videos. What happened is never
left out: it is in the store, on the disk, before anybody is told.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..errors import EdgeDetError, UnavailableError, in_one_line
from ..progress import Say, say_nothing
from ..stream.outputs.sinks import LONGEST_CLOSE_S, Write, compute_utc
from ..stream.overlap import lower_priority
from ..types import FrameResult
from .clips import ClipRules
from .log import log_ended
from .media import EventFrame, EventMedia
from .outbox import Message
from .record import Event
from .store import EventStore, Retention
from .watch import Change, Rulebook, Watcher

_WAITING = 8  # frames that may wait for the thread, of all cameras; so many for videos, and so many for pictures
_LONGEST_COMMIT_S = 0.1  # of frames whose events are written in one commit
_LEFT_OUT_TOLD = 16  # pictures
_PRUNE_EVERY_S = 60.0


class Publisher:
    """Who else is told of events; this one is nobody. Called by the thread that writes."""

    def messages_of(self, change: Change) -> List[Message]:
        """Return what is to be told, which is stored with the event."""
        return []

    def stored(self, camera: str, open_events: Sequence[Event], pictures: Mapping[str, bytes]) -> None:
        """Take news that are stored: events of a camera that go on, and JPEGs by label where there are better ones."""


@dataclass(frozen=True)
class EventOptions:
    """Where events go and what makes one.

    folder:   of the store, the pictures and the videos.
    rules:    may be replaced while the run goes on.
    """

    folder: Path
    rules: Rulebook = field(default_factory=Rulebook)
    clips: ClipRules = field(default_factory=ClipRules)
    retention: Retention = field(default_factory=Retention)


@contextmanager
def events_sink(
    options: EventOptions,
    class_names: Sequence[str],
    live: bool,
    publisher: Optional[Publisher] = None,
    say: Say = say_nothing,
    clock: Callable[[], float] = time.time,
) -> Iterator[Write]:
    """Write events into a folder, where ``read_events`` finds them; tells ``publisher``.

    Of a file, times count from when the run began. An error of the thread is raised by the next result that is written.
    Where OpenCV or the encoder fails, ``say`` gets a line, and events go on without that picture or in a new video.
    Raises InputError where the folder cannot be used.
    """
    worker = _Worker(options, class_names, publisher or Publisher(), live, say, clock)
    watchers: Dict[str, Watcher] = {}
    due_s: Dict[str, float] = {}
    last: Dict[str, Tuple[float, float]] = {}
    began_s = clock()

    def write(result: FrameResult) -> None:
        frame = result.frame
        if frame.camera not in watchers:
            watchers[frame.camera] = Watcher(frame.camera, class_names, options.rules.of(frame.camera))
        watcher = watchers[frame.camera]
        watcher.follow(options.rules.of(frame.camera))
        utc_s = compute_utc(frame) if live else began_s + frame.captured_s
        last[frame.camera] = (frame.captured_s, utc_s)
        changes = watcher.take(result, utc_s)
        recorded = options.clips.fps > 0 and frame.captured_s >= due_s.get(frame.camera, -np.inf)
        if recorded:
            due_s[frame.camera] = max(
                due_s.get(frame.camera, frame.captured_s) + 1 / options.clips.fps, frame.captured_s
            )
        if changes or recorded:
            item = EventFrame(frame.camera, frame.captured_s, utc_s, frame.bgr, changes, watcher.open)
            worker.put(item if recorded or item.has_picture else replace(item, bgr=None))

    try:
        yield write
    finally:
        for camera, watcher in watchers.items():
            captured_s, utc_s = last[camera]
            worker.put(EventFrame(camera, captured_s, utc_s, None, watcher.end(), ()))
        worker.end()


class _Worker:
    """The thread that writes events and their files."""

    def __init__(
        self,
        options: EventOptions,
        class_names: Sequence[str],
        publisher: Publisher,
        live: bool,
        say: Say,
        clock: Callable[[], float],
    ) -> None:
        self._options, self._publisher, self._clock = options, publisher, clock
        self._live, self._say = live, say
        self._store = EventStore(options.folder)
        self._media = EventMedia(options.folder, options.clips, class_names, say)
        self._left_out: Counter[str] = Counter()  # pictures by camera; of the run's own thread
        self._pruned_s = -np.inf
        for event in self._store.close_left_open():
            self._store.put(event, publisher.messages_of(Change("end", event)))
        log_ended(self._store)
        self._queue: queue.Queue[Optional[EventFrame]] = queue.Queue()
        self._room = {has_picture: threading.Semaphore(_WAITING) for has_picture in (False, True)}
        self._error: Optional[EdgeDetError] = None
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def put(self, item: EventFrame) -> None:
        """Take an item; of a camera, the frame is left out where there is no room for it."""
        if self._error is not None:
            raise self._error
        if item.bgr is not None and not self._room[item.has_picture].acquire(blocking=not self._live):
            item = replace(item, bgr=None)
            self._tell_left_out(item.camera)
        self._queue.put(item)

    def _tell_left_out(self, camera: str) -> None:
        """Report pictures that found no room: the 16th of a camera, the 32nd, 64th and so on; a few are no trouble."""
        self._left_out[camera] += 1
        count = self._left_out[camera]
        if count >= _LEFT_OUT_TOLD and not count & (count - 1):
            self._say(
                f"{count} pictures of {camera} were left out of events' videos: disk or CPU is too slow; no event is"
            )

    def end(self) -> None:
        """Let the thread finish what waits, and raise its error."""
        self._queue.put(None)
        self._thread.join(LONGEST_CLOSE_S if self._live else None)
        if self._thread.is_alive():
            self._say(f"not all events were written within {LONGEST_CLOSE_S:g} s; the next run ends the others")
        if self._error is not None:
            raise self._error

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._live:
            lower_priority()
        try:
            while self._take_waiting():
                pass
        except Exception as error:
            if isinstance(error, EdgeDetError):
                self._error = error
            else:
                reason = error if isinstance(error, (sqlite3.Error, OSError)) else in_one_line(error)
                self._error = UnavailableError(
                    f"cannot write events in {self._options.folder}: {reason}. Is the disk full or damaged?"
                )
            for room in self._room.values():
                room.release(10**6)  # nobody waits any longer
        finally:
            self._media.close()
            self._store.close()

    def _take_waiting(self) -> bool:
        """Write what waits, in one commit, since each waits for the disk; then tell of it. False at the end."""
        told: List[Tuple[EventFrame, Dict[str, bytes]]] = []
        news: List[Tuple[Event, List[Message]]] = []
        item = self._queue.get()
        began_s = time.monotonic()
        try:
            while item is not None:
                told.append((item, self._write_files(item, news)))
                if self._queue.empty() or time.monotonic() - began_s > _LONGEST_COMMIT_S:
                    break
                item = self._queue.get()  # this thread alone takes from the queue
        finally:  # also where a file cannot be written: what happened before is kept
            if news:
                self._store.put_all(news)
        if any(change.kind == "end" for event_frame, _ in told for change in event_frame.changes):
            log_ended(self._store)
        for event_frame, pictures in told:
            if event_frame.changes:
                self._publisher.stored(event_frame.camera, event_frame.open_events, pictures)
        if time.monotonic() - self._pruned_s > _PRUNE_EVERY_S:
            self._pruned_s = time.monotonic()
            self._store.prune(self._options.retention, self._clock())
        return item is not None

    def _write_files(self, item: EventFrame, news: List[Tuple[Event, List[Message]]]) -> Dict[str, bytes]:
        """Write a frame's pictures and video; add its events to ``news``, and return JPEGs by label."""
        try:
            self._media.record(item)
            return self._attach_all(item, news)
        finally:
            if item.bgr is not None:
                self._room[item.has_picture].release()

    def _attach_all(self, item: EventFrame, news: List[Tuple[Event, List[Message]]]) -> Dict[str, bytes]:
        pictures: Dict[str, bytes] = {}
        for change in item.changes:
            event, jpeg = self._media.attach(change, item)
            if jpeg is not None:
                pictures[event.label] = jpeg
            change = replace(change, event=event)
            news.append((event, self._publisher.messages_of(change)))
        return pictures
