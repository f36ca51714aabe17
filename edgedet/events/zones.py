"""Zones and lines in the picture, and when an object enters, leaves, stays in or crosses them.

Points are shares of the picture's width and height, from the top left, so a camera may change its resolution. Of an
object the middle of its box's lower edge counts: where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, List, Optional, Sequence, Set, Tuple, Union

from ..errors import InputError

Point = Tuple[float, float]

STEADY_FRAMES = 2  # frames in succession after which an object counts as in or out, because boxes shake
_INSIDE = 1e-4  # of the picture: what stands on its edge is in a zone that ends there
LINE_MARGIN = 0.005  # of the picture: an object that is nearer to a line keeps its side


@dataclass(frozen=True)
class Zone:
    """A part of the picture.

    polygon: three corners or more, in order.
    classes: names of those that count; None for all.
    score:   the least score of what counts.
    dwell_s: an object that stays longer is reported once; None: never.
    """

    name: str
    polygon: Tuple[Point, ...]
    classes: Optional[FrozenSet[str]] = None
    score: float = 0.0
    dwell_s: Optional[float] = None

    def __post_init__(self) -> None:
        if len(self.polygon) < 3:
            raise InputError(f"zone {self.name} wants 3 corners or more; got {len(self.polygon)}.")
        _check_points(f"zone {self.name}", self.polygon)
        if abs(_area_of(self.polygon)) < 1e-6:
            raise InputError(f"zone {self.name} is empty: its corners lie on one line.")

    def contains(self, point: Point) -> bool:
        """Return whether a point is inside, by the number of edges that a ray to the right crosses."""
        x, y = point
        inside = False
        for (x1, y1), (x2, y2) in zip(self.polygon, self.polygon[1:] + self.polygon[:1]):
            if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
                inside = not inside
        return inside


@dataclass(frozen=True)
class Line:
    """A line that objects cross: "forward" from its left to its right, as seen from ``start`` to ``end``."""

    name: str
    start: Point
    end: Point
    classes: Optional[FrozenSet[str]] = None
    score: float = 0.0

    def __post_init__(self) -> None:
        _check_points(f"line {self.name}", (self.start, self.end))
        if _distance(self.start, self.end) < LINE_MARGIN:
            raise InputError(f"line {self.name} has no length: its two points are the same.")

    def side_of(self, point: Point) -> int:
        """Return -1 for the left, 1 for the right, 0 where a point is too near to the line to say."""
        cross = _cross(self.start, self.end, point) / _distance(self.start, self.end)
        return 0 if abs(cross) < LINE_MARGIN else (1 if cross > 0 else -1)

    def is_between(self, before: Point, after: Point) -> bool:
        """Return whether a step from one side to the other passes between the two ends."""
        return (_cross(before, after, self.start) > 0) != (_cross(before, after, self.end) > 0)


Place = Union[Zone, Line]


@dataclass(frozen=True)
class Crossing:
    """What an object did: ``kind`` is "enter", "leave", "dwell" or "cross"; ``direction`` of "cross" only."""

    kind: str
    place: str
    direction: str = ""


class PlacesOf:
    """Where one object is: told of each frame that shows it."""

    def __init__(self, places: Sequence[Place]) -> None:
        """Begin outside of all zones."""
        self._zones = {place.name: place for place in places if isinstance(place, Zone)}
        self._lines = {place.name: place for place in places if isinstance(place, Line)}
        self._since_s: Dict[str, float] = {}  # zone -> when it was entered
        self._dwelt: Set[str] = set()
        self._against: Dict[str, int] = {}  # zone -> frames in succession that say otherwise
        self._sides: Dict[str, Tuple[int, Point]] = {}  # line -> the last sure side, and where that was

    @property
    def zones(self) -> Tuple[str, ...]:
        """Return the zones that the object is in, in the order in which it entered them."""
        return tuple(self._since_s)

    def move(self, point: Point, time_s: float, label: str, score: float) -> List[Crossing]:
        """Take where the object is now; ``score`` is its best so far."""
        crossings = []
        for name, zone in self._zones.items():
            inside = name in self._since_s
            now = zone.contains(point) and (inside or _counts(zone, label, score))
            self._against[name] = self._against.get(name, 0) + 1 if now != inside else 0
            if self._against[name] >= STEADY_FRAMES:
                self._against[name] = 0
                if now:
                    self._since_s[name] = time_s
                    crossings.append(Crossing("enter", name))
                else:
                    crossings.append(self._left(name))
            elif inside and self._stays_long(zone, time_s):
                self._dwelt.add(name)
                crossings.append(Crossing("dwell", name))
        for name, line in self._lines.items():
            side = line.side_of(point)
            if not side:
                continue
            last, where = self._sides.get(name, (side, point))
            if side != last and line.is_between(where, point) and _counts(line, label, score):
                crossings.append(Crossing("cross", name, "forward" if side > 0 else "backward"))
            self._sides[name] = (side, point)
        return crossings

    def end(self) -> List[Crossing]:
        """Return the zones that the object was in when it was lost."""
        return [self._left(name) for name in list(self._since_s)]

    def _stays_long(self, zone: Zone, time_s: float) -> bool:
        """Return True the first time that the object was in a zone for longer than the zone allows."""
        if zone.dwell_s is None or zone.name in self._dwelt:
            return False
        return time_s - self._since_s[zone.name] >= zone.dwell_s

    def _left(self, name: str) -> Crossing:
        del self._since_s[name]
        self._dwelt.discard(name)
        return Crossing("leave", name)


def standing_point(box_xyxy: Sequence[float], picture_wh: Tuple[int, int]) -> Point:
    """Return where a box stands, in shares of the picture; one that is cut by its edge stands just inside."""
    x1, _, x2, y2 = box_xyxy
    x, y = (x1 + x2) / 2 / picture_wh[0], y2 / picture_wh[1]
    return min(max(x, _INSIDE), 1 - _INSIDE), min(max(y, _INSIDE), 1 - _INSIDE)


def _counts(place: Place, label: str, score: float) -> bool:
    return score >= place.score and (place.classes is None or label in place.classes)


def _check_points(place: str, points: Sequence[Point]) -> None:
    for x, y in points:
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
            raise InputError(f"{place} wants points in shares of the picture, 0 to 1; got {x:g}, {y:g}.")


def _area_of(polygon: Sequence[Point]) -> float:
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]])) / 2


def _cross(start: Point, end: Point, point: Point) -> float:
    """Return a number above 0 where a point lies to the right of start to end, in a picture whose y goes down."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def _distance(a: Point, b: Point) -> float:
    return float(((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5)
