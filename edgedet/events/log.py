"""The JSON lines of events that ended, beside the store: each event once, also after a run was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

from ..files import unwritable
from ..stream.outputs.jsonl import append_whole, drop_half_line
from .record import as_json
from .store import EventStore

LINES = "events.jsonl"


def log_ended(store: EventStore) -> None:
    """Append the events that ended and are not in the lines yet; raises InputError where the disk takes nothing."""
    events = store.unlogged()
    if not events:
        return
    lines = store.folder / LINES
    try:
        if lines.exists():
            drop_half_line(lines)
        with open(lines, "ab", buffering=0) as file:
            logged = _last_ids(lines, len(events))
            for event in events:
                if event.id not in logged:
                    append_whole(file, (json.dumps(as_json(event)) + "\n").encode())
    except OSError as error:
        raise unwritable(lines, error) from error
    store.set_logged([event.id for event in events])


def _last_ids(path: Path, count: int) -> List[str]:
    """Return the ids of the last lines: a run may have been killed between writing one and noting that it did."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, size - (count + 1) * (64 << 10)))  # an event of the longest path has some 20 KB
        lines = file.read().splitlines()[-count - 1 :]
    ids = []
    for line in lines:
        try:
            ids.append(json.loads(line)["id"])
        except (ValueError, KeyError, TypeError):
            continue
    return ids
