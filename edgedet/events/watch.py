"""From the tracks of a camera's frames to events: when each begins, changes and ends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ..types import FrameResult, Track
from .record import Best, Box, Event, Moment, event_id
from .zones import Place, PlacesOf, standing_point

UPDATE_EVERY_S = 1.0  # what a killed process may lose of a path; "update" messages come no oftener without a reason
PATH_STEP = 0.01  # of the picture, between two points of a path
MOST_PATH_POINTS = 500  # then every second one goes
BETTER_BY = 0.03  # of the score: a picture that is as good again is not worth encoding


@dataclass(frozen=True)
class Rules:
    """What is an event.

    places:   zones and lines of the camera.
    classes:  names of those that make events, each with the least score; None for all at any score of a track.
    required: names of zones; an object makes an event once it is in one of them. None: anywhere.
    """

    places: Tuple[Place, ...] = ()
    classes: Optional[Mapping[str, float]] = None
    required: Optional[Tuple[str, ...]] = None


class Rulebook:
    """The rules of each camera, which may be replaced while a run goes on, from any thread."""

    def __init__(self, rules: Optional[Mapping[str, Rules]] = None, others: Optional[Rules] = None) -> None:
        """Take rules by camera; ``others`` are those of cameras without."""
        self._book = (dict(rules or {}), others or Rules())

    def of(self, camera: str) -> Rules:
        """Return what makes an event before a camera."""
        rules, others = self._book
        return rules.get(camera, others)

    def replace(self, other: Rulebook) -> None:
        """Take another one's rules, which hold from the next frame on."""
        self._book = other._book

    def cameras(self) -> Mapping[str, Rules]:
        """Return the rules that cameras have of their own."""
        return self._book[0]

    def class_names(self) -> Tuple[str, ...]:
        """Return all names of classes that stand in rules, sorted."""
        rules, others = self._book
        names: Set[str] = set()
        for camera_rules in (*rules.values(), others):
            names.update(camera_rules.classes or ())
            for place in camera_rules.places:
                names.update(place.classes or ())
        return tuple(sorted(names))


@dataclass(frozen=True, eq=False)
class Change:
    """What became of an event with a frame.

    kind:   "new", "update" or "end".
    before: the event as it was told the last time; None of "new".
    better: whether the frame is the event's best picture so far.
    """

    kind: str
    event: Event
    before: Optional[Event] = None
    better: bool = False


@dataclass
class _Object:
    """A track that may be an event: what is known of it."""

    where: PlacesOf
    best_score: float = 0.0
    event: Optional[Event] = None
    told: Optional[Event] = None
    early: List[Moment] = field(default_factory=list)  # before the event began
    first_s: float = 0.0


class Watcher:
    """The events of one camera."""

    def __init__(self, camera: str, class_names: Sequence[str], rules: Rules) -> None:
        """Begin with none."""
        self._camera, self._class_names = camera, class_names
        self._rules = rules
        self._objects: Dict[int, _Object] = {}

    @property
    def open(self) -> Tuple[Event, ...]:
        """Return the events that go on."""
        return tuple(followed.event for followed in self._objects.values() if followed.event is not None)

    def follow(self, rules: Rules) -> None:
        """Take rules; where they are new, every object begins outside of all zones, and enters them again."""
        if rules != self._rules:
            self._rules = rules
            for followed in self._objects.values():
                followed.where = PlacesOf(rules.places)

    def take(self, result: FrameResult, utc_s: float) -> List[Change]:
        """Return what a frame changes; ``utc_s`` is when it was captured, in seconds since 1970."""
        height, width = result.frame.bgr.shape[:2]
        tracks = {track.id: track for track in result.tracks or ()}
        changes = [change for id in list(self._objects) if id not in tracks for change in self._end(id, "gone")]
        for track in tracks.values():
            if track.seen:
                changes += self._see(track, utc_s, (width, height))
        return changes

    def end(self, ended_by: str = "stop") -> List[Change]:
        """Return the ends of all events that go on."""
        return [change for id in list(self._objects) for change in self._end(id, ended_by)]

    def _see(self, track: Track, utc_s: float, picture_wh: Tuple[int, int]) -> List[Change]:
        label = self._class_names[track.class_id]
        followed = self._objects.get(track.id)
        if followed is None:
            followed = self._objects[track.id] = _Object(PlacesOf(self._rules.places), first_s=utc_s)
        followed.best_score = max(followed.best_score, track.score)
        point = standing_point(track.box_xyxy, picture_wh)
        moments = [
            Moment(crossing.kind, crossing.place, utc_s, crossing.direction)
            for crossing in followed.where.move(point, utc_s, label, followed.best_score)
        ]
        box = _shares_of(track.box_xyxy, picture_wh)
        if followed.event is None:
            followed.early += moments
            if not self._begins(followed, label):
                return []
            best = Best(utc_s, track.score, box)
            followed.event = Event(
                event_id(followed.first_s),
                self._camera,
                label,
                track.id,
                followed.first_s,
                utc_s,
                track.score,
                box,
                best,
                path=((round(utc_s - followed.first_s, 3), *point),),
            )
            followed.event = _with_moments(followed.event, followed.where.zones, followed.early)
            followed.told = followed.event
            return [Change("new", followed.event, None, better=True)]
        better = track.score > followed.event.best.score + BETTER_BY
        followed.event = replace(
            _with_moments(followed.event, followed.where.zones, moments),
            seen_s=utc_s,
            score=track.score,
            box=box,
            best=Best(utc_s, track.score, box) if better else followed.event.best,
            path=_longer(followed.event.path, utc_s - followed.event.start_s, point),
        )
        assert followed.told is not None
        if not moments and not better and utc_s - followed.told.seen_s < UPDATE_EVERY_S:
            return []
        change = Change("update", followed.event, followed.told, better)
        followed.told = followed.event
        return [change]

    def _begins(self, followed: _Object, label: str) -> bool:
        classes, required = self._rules.classes, self._rules.required
        if classes is not None and followed.best_score < classes.get(label, 2.0):
            return False
        return required is None or any(zone in required for zone in followed.where.zones)

    def _end(self, track_id: int, ended_by: str) -> List[Change]:
        followed = self._objects.pop(track_id)
        if followed.event is None:
            return []
        last = followed.event
        left = [Moment(crossing.kind, crossing.place, last.seen_s) for crossing in followed.where.end()]
        ended = replace(_with_moments(last, (), left), end_s=last.seen_s, ended_by=ended_by)
        return [Change("end", ended, followed.told)]


def _with_moments(event: Event, zones: Tuple[str, ...], moments: Sequence[Moment]) -> Event:
    entered = [moment.place for moment in moments if moment.kind == "enter" and moment.place not in event.entered]
    return replace(
        event,
        zones=zones,
        entered=event.entered + tuple(dict.fromkeys(entered)),
        moments=event.moments + tuple(moments),
    )


def _longer(
    path: Tuple[Tuple[float, float, float], ...], since_start_s: float, point: Tuple[float, float]
) -> Tuple[Tuple[float, float, float], ...]:
    """Return a path with one more point, where that is far enough from the last one."""
    _, x, y = path[-1]
    if abs(point[0] - x) < PATH_STEP and abs(point[1] - y) < PATH_STEP:
        return path
    if len(path) >= MOST_PATH_POINTS:
        path = path[::2]
    return (*path, (round(since_start_s, 3), *point))


def _shares_of(box_xyxy: Box, picture_wh: Tuple[int, int]) -> Box:
    width, height = picture_wh
    x1, y1, x2, y2 = box_xyxy
    return x1 / width, y1 / height, x2 / width, y2 / height
