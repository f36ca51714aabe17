"""A folder of events for tests of the page: real records, pictures and clips, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from walkers import CLASS_NAMES, crossing

from edgedet.events.clips import ClipRules
from edgedet.events.record import Best, Event, event_id
from edgedet.events.sink import EventOptions, events_sink
from edgedet.events.watch import Rulebook, Rules
from edgedet.events.zones import Zone

YARD = Zone("yard", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))


def make_events(folder: Path, starts: list[tuple[float, str]], clips: bool = True, seconds: float = 1.0) -> None:
    """Let a person cross before a camera at each (seconds since 1970, camera); they all enter the zone "yard"."""
    rules = ClipRules(before_s=1.0, after_s=1.0, fps=5.0 if clips else 0.0)
    options = EventOptions(folder, Rulebook(others=Rules((YARD,))), rules)
    for start_s, camera in starts:
        with events_sink(options, CLASS_NAMES, live=False, clock=lambda start_s=start_s: start_s) as write:
            for result in crossing(seconds, camera=camera):
                write(result)


def some_event(start_s: float, end_s: float | None = None, **changes: Any) -> Event:
    """Return a person's record before the door, without files; it goes on where it has no end."""
    best = Best(start_s, 0.8, (0.1, 0.1, 0.2, 0.2))
    values = {"camera": "door", "label": "person", "track": 1, "score": 0.8, "box": best.box, **changes}
    return Event(event_id(start_s), start_s=start_s, seen_s=end_s or start_s, end_s=end_s, best=best, **values)
