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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..errors import EdgeDetError, UnavailableError, in_one_line, require
from ..files import atomic_path
from ..progress import Say, say_nothing
from ..stream.cameras.address import make_file_stem
from ..stream.outputs.draw import draw
from ..stream.outputs.sinks import LONGEST_CLOSE_S, Write, compute_utc
from ..stream.overlap import lower_priority
from ..types import Detections, FrameResult
from .clips import ClipRecorder, ClipRules
from .log import log_ended
from .outbox import Message
from .record import Best, Event
from .store import EventStore, Retention
from .watch import Change, Rulebook, Watcher

_WAITING = 8  # frames that may wait for the thread, of all cameras; so many for videos, and so many for pictures
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


@dataclass(frozen=True, eq=False)
class _Item:
    """What the thread gets: a camera's frame, or None, and what happened in it."""

    camera: str
    captured_s: float
    utc_s: float
    bgr: Optional[np.ndarray]
    changes: Sequence[Change]
    open_events: Tuple[Event, ...]

    @property
    def has_picture(self) -> bool:
        """Whether an event wants the frame as its best picture."""
        return any(change.better for change in self.changes)


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
            item = _Item(frame.camera, frame.captured_s, utc_s, frame.bgr, changes, watcher.open)
            worker.put(item if recorded or item.has_picture else replace(item, bgr=None))

    try:
        yield write
    finally:
        for camera, watcher in watchers.items():
            captured_s, utc_s = last[camera]
            worker.put(_Item(camera, captured_s, utc_s, None, watcher.end(), ()))
        worker.end()


class _Worker:
    """The thread, and the files that it writes."""

    def __init__(
        self,
        options: EventOptions,
        class_names: Sequence[str],
        publisher: Publisher,
        live: bool,
        say: Say,
        clock: Callable[[], float],
    ) -> None:
        self._options, self._class_names, self._publisher, self._clock = options, class_names, publisher, clock
        self._live, self._say = live, say
        self._failures: Counter[str] = Counter()  # of pictures and videos, by camera
        self._store = EventStore(options.folder)
        self._recorders: Dict[str, ClipRecorder] = {}
        self._media: Dict[str, Event] = {}  # id -> an event of which snapshot and clips count
        self._pruned_s = -np.inf
        for event in self._store.close_left_open():
            self._store.put(event, publisher.messages_of(Change("end", event)))
        log_ended(self._store)
        self._queue: queue.Queue[Optional[_Item]] = queue.Queue()
        self._room = {has_picture: threading.Semaphore(_WAITING) for has_picture in (False, True)}
        self._error: Optional[EdgeDetError] = None
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def put(self, item: _Item) -> None:
        """Take an item; of a camera, the frame is left out where there is no room for it."""
        if self._error is not None:
            raise self._error
        if item.bgr is not None and not self._room[item.has_picture].acquire(blocking=not self._live):
            item = replace(item, bgr=None)
        self._queue.put(item)

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
            for item in iter(self._queue.get, None):
                try:
                    self._take(item)
                finally:
                    if item.bgr is not None:
                        self._room[item.has_picture].release()
        except Exception as error:
            if isinstance(error, EdgeDetError):
                self._error = error
            else:
                what = error if isinstance(error, (sqlite3.Error, OSError)) else in_one_line(error)
                self._error = UnavailableError(
                    f"cannot write events in {self._options.folder}: {what}. Is the disk full or damaged?"
                )
            for room in self._room.values():
                room.release(10**6)  # nobody waits any longer
        finally:
            for recorder in self._recorders.values():
                recorder.close()
            self._store.close()

    def _take(self, item: _Item) -> None:
        recorder = self._recorder_of(item.camera)
        if recorder is not None:
            recorder = self._record(recorder, item)
        pictures: Dict[str, bytes] = {}
        news = []
        for change in item.changes:
            event, jpeg = self._with_media(change, item, recorder)
            if jpeg is not None:
                pictures[event.label] = jpeg
            change = replace(change, event=event)
            news.append((event, self._publisher.messages_of(change)))
        if news:
            self._store.put_all(news)  # one commit a frame: each waits for the disk
        if any(change.kind == "end" for change in item.changes):
            log_ended(self._store)
        if item.changes:
            self._publisher.stored(item.camera, item.open_events, pictures)
        if time.monotonic() - self._pruned_s > _PRUNE_EVERY_S:
            self._pruned_s = time.monotonic()
            self._store.prune(self._options.retention, self._clock())

    def _record(self, recorder: ClipRecorder, item: _Item) -> Optional[ClipRecorder]:
        """Put an item's frame into the camera's video; None where that failed, and the next frame begins a new one."""
        try:
            if item.open_events:
                if item.bgr is not None:
                    recorder.begin(item.bgr, item.captured_s, item.utc_s)
                recorder.keep_until(item.captured_s)
            if item.bgr is not None:
                recorder.add(item.bgr, item.captured_s, item.utc_s)
        except (EdgeDetError, OSError):
            raise
        except Exception as error:  # of OpenCV or the encoder, which raise what they like
            self._tell_failure(item.camera, "the video of events", error)
            del self._recorders[item.camera]
            with suppress(Exception):  # the same error once more; what was written before may play
                recorder.close()
            return None
        return recorder

    def _tell_failure(self, camera: str, what: str, error: Exception) -> None:
        """Report the 1st, 2nd, 4th, 8th, ... failure of a camera."""
        self._failures[camera] += 1
        count = self._failures[camera]
        if not count & (count - 1):
            times = f", {count} times" if count > 1 else ""
            self._say(f"{what} of {camera or 'the file'}{times}: {in_one_line(error)}; the events go on")

    def _recorder_of(self, camera: str) -> Optional[ClipRecorder]:
        if self._options.clips.fps <= 0:
            return None
        if camera not in self._recorders:
            folder = self._options.folder / make_file_stem(camera)
            self._recorders[camera] = ClipRecorder(folder, self._options.clips)
        return self._recorders[camera]

    def _with_media(
        self, change: Change, item: _Item, recorder: Optional[ClipRecorder]
    ) -> Tuple[Event, Optional[bytes]]:
        """Return the event with its files, and the JPEG of a better picture."""
        event = change.event
        known = self._media.get(event.id, event)
        jpeg = None
        snapshot = known.snapshot
        wanted = change.better or (not snapshot and change.kind == "update")  # there was no room for the best one
        if wanted and item.bgr is not None:
            try:
                jpeg = self._jpeg_of(event if change.better else _as_now(event), item.bgr)
            except Exception as error:  # of OpenCV
                self._tell_failure(item.camera, "the picture of an event", error)
        if jpeg is not None:
            stem = make_file_stem(item.camera)
            day = f"{event.id[:4]}-{event.id[4:6]}-{event.id[6:8]}"
            snapshot = f"{stem}/{day}/{event.id}.jpg"
            with atomic_path(self._options.folder / snapshot) as temporary:
                temporary.write_bytes(jpeg)
        clips, clip_from_s = known.clips, known.clip_from_s
        if recorder is not None and recorder.path is not None and change.kind != "end":
            path = recorder.path.relative_to(self._options.folder).as_posix()
            if path not in clips:
                if not clips:
                    clip_from_s = round(recorder.since_s(item.captured_s), 3)
                clips = (*clips, path)
        event = replace(event, snapshot=snapshot, clips=clips, clip_from_s=clip_from_s)
        if change.kind == "end":
            self._media.pop(event.id, None)
        else:
            self._media[event.id] = replace(event, path=())
        return event, jpeg

    def _jpeg_of(self, event: Event, bgr: np.ndarray) -> bytes:
        """Return the picture with the event's box drawn in."""
        height, width = bgr.shape[:2]
        box_xyxy = np.array([event.best.box], np.float32) * np.array([width, height, width, height], np.float32)
        one = Detections(
            box_xyxy,
            np.array([event.best.score], np.float32),
            np.array([self._class_names.index(event.label)], np.int64),
        )
        _, jpeg = require("cv2", "pictures of events").imencode(".jpg", draw(bgr, one, self._class_names))
        return bytes(jpeg.tobytes())


def _as_now(event: Event) -> Event:
    """Return the event as if its newest picture were its best one."""
    return replace(event, best=Best(event.seen_s, event.score, event.box))
