"""The record of an event: one object's stay before a camera, from its first to its last picture."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Optional, Tuple

from ..stream.outputs.segments import format_stamp

Box = Tuple[float, float, float, float]


@dataclass(frozen=True)
class Moment:
    """Something that happened during an event.

    kind:      "enter", "leave", "dwell" (of a zone) or "cross" (of a line).
    direction: "forward" or "backward" of "cross", else "".
    """

    kind: str
    place: str
    utc_s: float
    direction: str = ""


@dataclass(frozen=True)
class Best:
    """The picture that shows an event's object best: when, the box in shares of the picture, the score."""

    utc_s: float
    score: float
    box: Box


@dataclass(frozen=True)
class Event:
    """One object's stay before a camera.

    id:        begins with the time and is unique over cameras, runs and boards.
    label:     the class's name; ``track``: its number in the run.
    start_s:   seconds since 1970, likewise ``seen_s`` (the last detection so far) and ``end_s`` (None: it goes on).
    score:     of the newest detection.
    box:       x1 y1 x2 y2 of the newest detection, in shares of the picture.
    zones:     those that it is in; ``entered``: all that it was in, in order.
    path:      (seconds since the start, x, y) of where it stood, in shares of the picture; thinned.
    snapshot:  file of the best picture, relative to the events' folder; "" before there is one.
    clips:     files of the recording that show it, likewise, in order; ``clip_from_s``: seconds into the first.
    ended_by:  "gone", "stop" (the run ended) or "restart" (the run was killed); "" while it goes on.
    """

    id: str
    camera: str
    label: str
    track: int
    start_s: float
    seen_s: float
    score: float
    box: Box
    best: Best
    end_s: Optional[float] = None
    zones: Tuple[str, ...] = ()
    entered: Tuple[str, ...] = ()
    moments: Tuple[Moment, ...] = ()
    path: Tuple[Tuple[float, float, float], ...] = field(default=(), repr=False)
    snapshot: str = ""
    clips: Tuple[str, ...] = ()
    clip_from_s: float = 0.0
    ended_by: str = ""


def event_id(utc_s: float) -> str:
    """Return a new id: the time, so that ids sort by it, and eight random hexadecimal digits."""
    return f"{format_stamp(utc_s)}-{secrets.token_hex(4)}"


def as_json(event: Event) -> Dict[str, Any]:
    """Return an event as JSON can hold it, times rounded to milliseconds."""
    record = asdict(event)
    for name in ("start_s", "seen_s", "end_s"):
        record[name] = None if record[name] is None else round(record[name], 3)
    record["score"] = round(event.score, 4)
    record["box"] = [round(value, 4) for value in event.box]
    record["best"] = {
        "utc_s": round(event.best.utc_s, 3),
        "score": round(event.best.score, 4),
        "box": [round(value, 4) for value in event.best.box],
    }
    record["moments"] = [{**asdict(moment), "utc_s": round(moment.utc_s, 3)} for moment in event.moments]
    record["path"] = [[round(value, 3) for value in point] for point in event.path]
    return record


def from_json(record: Dict[str, Any]) -> Event:
    """Return the event that ``as_json`` wrote; raises KeyError or TypeError for anything else."""
    best = record["best"]
    return Event(
        **{
            **record,
            "box": tuple(record["box"]),
            "best": Best(best["utc_s"], best["score"], tuple(best["box"])),
            "zones": tuple(record["zones"]),
            "entered": tuple(record["entered"]),
            "moments": tuple(Moment(**moment) for moment in record["moments"]),
            "path": tuple((float(t), float(x), float(y)) for t, x, y in record["path"]),
            "clips": tuple(record["clips"]),
        }
    )
