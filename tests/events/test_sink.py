"""Events on the disk: records, pictures, videos, and what a killed run leaves."""

import itertools
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import weakref
from contextlib import closing

import pytest
from media import frames_of
from waiting import LAST_RESORT_S, wait_until
from walkers import CLASS_NAMES, crossing, result, walker

from edgedet.errors import InputError
from edgedet.events import clips, sink
from edgedet.events.clips import ClipRules
from edgedet.events.log import LINES
from edgedet.events.sink import EventOptions, events_sink
from edgedet.events.store import (
    DATABASE,
    read_events,
)
from edgedet.stream.outputs.video_file import open_video_file as real_video_file

cv2 = pytest.importorskip("cv2", reason="pictures of events are written by OpenCV")


def lines_of(folder):
    return [json.loads(line) for line in (folder / LINES).read_text().splitlines()]


def write_all(folder, results, **options):
    with events_sink(EventOptions(folder, **options), CLASS_NAMES, live=False) as write:
        for one in results:
            write(one)


def test_event_has_a_record_a_picture_and_a_clip(tmp_path):
    clips = ClipRules(before_s=1.0, after_s=1.0, fps=5.0)
    nothing = [result([], i / 10, i) for i in range(20)]
    after = [result([], 5.0 + i / 10, i) for i in range(30)]
    write_all(tmp_path, [*nothing, *crossing(begin_s=2.0, seconds=3.0), *after], clips=clips)
    (event,) = read_events(tmp_path)
    assert lines_of(tmp_path) == [event]
    assert event["label"] == "person"
    assert event["end_s"] - event["start_s"] == pytest.approx(2.9)
    picture = (tmp_path / event["snapshot"]).read_bytes()
    assert picture[:2] == b"\xff\xd8"
    (clip,) = event["clips"]
    frames, fps = frames_of(tmp_path / clip)
    assert fps == pytest.approx(5.0)
    assert event["clip_from_s"] == pytest.approx(1.0, abs=0.25)
    assert len(frames) / fps == pytest.approx(1.0 + 3.0 + 1.0, abs=0.5)  # before, the event, after


def test_crowd_shares_one_clip(tmp_path):
    crowd = [result([walker(id, 0.1 * id) for id in range(1, 6)], i / 10, i) for i in range(20)]
    write_all(tmp_path, crowd)
    events = read_events(tmp_path)
    assert len(events) == 5
    assert len({tuple(event["clips"]) for event in events}) == 1


def test_long_event_has_several_clips(tmp_path):
    write_all(tmp_path, [result([walker(1, 0.5)], i / 10, i) for i in range(100)], clips=ClipRules(longest_s=4.0))
    (event,) = read_events(tmp_path)
    assert len(event["clips"]) == 3


class FailingVideo:
    """A video file of which the third picture fails, as cv2.error or PyAV's errors come."""

    opened = 0

    def __init__(self, path, fps, size_wh, grows):
        FailingVideo.opened += 1
        self.fails = FailingVideo.opened == 1
        self.held = real_video_file(path, fps, size_wh, grows)

    def __enter__(self):
        write, count = self.held.__enter__(), itertools.count(1)

        def write_or_fail(picture):
            if self.fails and next(count) == 3:
                raise cv2.error("encoder:\nno more memory")
            write(picture)

        return write_or_fail

    def __exit__(self, *error):
        return self.held.__exit__(*error)


def test_an_encoder_that_fails_costs_no_event_and_the_next_picture_begins_a_new_video(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "open_video_file", FailingVideo)
    monkeypatch.setattr(FailingVideo, "opened", 0)
    said = []
    with events_sink(EventOptions(tmp_path), CLASS_NAMES, live=False, say=said.append) as write:
        for one in crossing(seconds=3.0):
            write(one)
    (event,) = read_events(tmp_path)
    assert event["ended_by"] == "gone"
    first, second = (len(frames_of(tmp_path / clip)[0]) for clip in event["clips"])
    assert first == 2
    assert second == pytest.approx(13, abs=1)  # of 16 pictures the third is lost
    assert said == ["the video of events of door: error: encoder: no more memory; the events go on"]


def test_every_event_has_a_picture_also_where_videos_take_all_the_time(tmp_path, monkeypatch):
    """While the encoder stands still, frames for videos fill their places; 12 persons come, of whom 8 find one.

    The others get their picture later.
    """
    goes_on = threading.Event()
    add = clips.ClipRecorder.add

    def add_later(recorder, *picture):
        goes_on.wait()
        add(recorder, *picture)

    monkeypatch.setattr(clips.ClipRecorder, "add", add_later)
    monkeypatch.setattr(sink, "lower_priority", lambda: None)  # on a busy machine it would get no time at all
    people = [walker(id, id / 13) for id in range(1, 13)]
    with events_sink(EventOptions(tmp_path), CLASS_NAMES, live=True) as write:
        for number in range(20):
            write(result([], number / 5, number))
        for number in range(1, 13):
            write(result(people[:number], 4.0 + number / 10, number))
        assert read_events(tmp_path) == []
        goes_on.set()
        wait_until(lambda: len(read_events(tmp_path)) == 12)
        assert sum(bool(event["snapshot"]) for event in read_events(tmp_path)) >= 7
        later_s = itertools.count(6.0)

        def write_and_count():
            write(result(people, next(later_s)))
            named = [event["snapshot"] for event in read_events(tmp_path) if event["snapshot"]]
            return sum((tmp_path / name).is_file() for name in named)

        wait_until(lambda: write_and_count() == 12)


def test_three_cameras_at_25_fps_lose_no_event_while_the_disk_takes_nothing(tmp_path, monkeypatch):
    """The thread stands still for two seconds of frames: few pictures are held, nothing waits, and it is told."""
    stands_still, goes_on = threading.Event(), threading.Event()

    def add(self, *args):
        stands_still.set()
        goes_on.wait()

    monkeypatch.setattr(clips.ClipRecorder, "add", add)
    monkeypatch.setattr(sink, "lower_priority", lambda: None)
    monkeypatch.setattr(sink, "LONGEST_CLOSE_S", LAST_RESORT_S)
    held, lines = [], []
    rules = ClipRules(before_s=1.0, after_s=1.0, fps=25.0)
    with events_sink(EventOptions(tmp_path, clips=rules), CLASS_NAMES, live=True, say=lines.append) as write:
        for number in range(50):
            for camera in ("door", "yard", "street"):
                one = result([walker(1 + number // 10, 0.5)], number / 25, number, camera)
                held.append(weakref.ref(one.frame))
                write(one)
        stands_still.wait()
        del one
        still_held = sum(ref() is not None for ref in held)
        goes_on.set()
    assert still_held <= 2 * 8 + 1
    events = read_events(tmp_path, limit=1000)
    assert len(events) == 3 * 5
    assert all(event["end_s"] is not None for event in events)
    assert len(lines_of(tmp_path)) == 3 * 5
    assert "pictures of door were left out of events' videos" in "".join(lines)


def test_without_clips_there_is_a_picture_still(tmp_path):
    write_all(tmp_path, crossing(), clips=ClipRules(fps=0))
    (event,) = read_events(tmp_path)
    assert event["clips"] == []
    assert (tmp_path / event["snapshot"]).is_file()


KILLED = """
import sys
from pathlib import Path
from happened import some_event
from walkers import CLASS_NAMES, result, walker
from edgedet.events.clips import ClipRules
from edgedet.events.sink import EventOptions, Publisher, events_sink

class Told(Publisher):
    written = []
    def messages_of(self, change):
        if change.event.ended_by != "restart":
            self.written.append((change.kind, change.event.id))
        return []
    def stored(self, camera, open_events, pictures):
        while self.written:
            print(*self.written.pop(0), flush=True)

options = EventOptions(Path(sys.argv[1]), clips=ClipRules(fps=0))
with events_sink(options, CLASS_NAMES, live=False, publisher=Told()) as write:
    for number in range(100_000):
        id = number // 4 + 2  # four frames an object, then the next; the first one stays
        write(result([walker(1, 0.2), walker(id, 0.5)], number / 10, number))
"""


def test_kill_loses_no_event_that_was_told_and_doubles_none(tmp_path):
    told = []
    for round_number in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        told += [process.stdout.readline().split() for _ in range(7 + 5 * round_number)]
        process.send_signal(signal.SIGKILL)
        told += [line.split() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        process.wait()
        process.stdout.close()
    assert (tmp_path / DATABASE).is_file()
    with events_sink(EventOptions(tmp_path), CLASS_NAMES, live=False):
        pass
    events = {event["id"]: event for event in read_events(tmp_path, limit=100_000)}
    assert len({event_id for _, event_id in told}) > 10
    assert {event_id for _, event_id in told} <= set(events)
    assert all(event["end_s"] is not None for event in events.values())
    assert 3 <= sum(event["ended_by"] == "restart" for event in events.values()) <= 6
    ended = {event_id for kind, event_id in told if kind == "end"}
    assert all(events[event_id]["ended_by"] == "gone" for event_id in ended)
    logged = [line["id"] for line in lines_of(tmp_path)]
    assert sorted(logged) == sorted(events)  # each once


def test_a_database_that_is_damaged_while_nothing_happens_ends_the_run_in_one_line(tmp_path):
    """And nobody waits for the thread, which is gone."""

    def damage_then_write():
        with events_sink(EventOptions(tmp_path), CLASS_NAMES, live=False) as write:
            with closing(sqlite3.connect(tmp_path / DATABASE)) as db:
                db.execute("drop table events")
            for index in range(20):
                write(result([], float(index), index))

    with pytest.raises(InputError, match="cannot write events in"):
        damage_then_write()
