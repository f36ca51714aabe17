"""Which events of detection on every frame are also there when frames and looks are left out?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from edgedet.track.byte_track import ByteTracker, iou_of
from edgedet.types import Detections

SCORE = 0.4
LEAST_IOU = 0.5
LEAST_S = 1.0  # an event that lasted less is not counted


@dataclass
class EventBoxes:
    """One confirmed track: its box by the scene's picture number, where a picture shows it."""

    boxes: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def numbers(self) -> range:
        """Return the numbers from the first to the last picture."""
        return range(min(self.boxes), max(self.boxes) + 1)


class EventLog:
    """The tracks of one camera, from the detections of those of its pictures that were processed."""

    def __init__(self, fps: float) -> None:
        self._fps, self._tracker = fps, ByteTracker()
        self._events: dict[int, EventBoxes] = defaultdict(EventBoxes)
        self.processed: set[int] = set()

    def add(self, number: int, detections: Detections) -> None:
        """Take the detections of a picture; numbers go up."""
        self.processed.add(number)
        self._tracker.update(detections, number / self._fps, SCORE)
        for track in self._tracker.tracks:
            if track.seen:
                self._events[track.id].boxes[number] = np.array(track.box_xyxy)

    def events(self) -> list[EventBoxes]:
        """Return all tracks that were confirmed."""
        return list(self._events.values())


def lasting(events: list[EventBoxes], fps: float) -> list[EventBoxes]:
    """Return the events that were detected for LEAST_S."""
    return [event for event in events if len(event.boxes) >= LEAST_S * fps]


def is_recalled(reference: EventBoxes, log: EventLog) -> bool:
    """Return whether confirmed tracks lie on the reference in half of the processed pictures of its time, or more.

    They may be several tracks, of which each is a message to the user.
    """
    processed = [number for number in reference.boxes if number in log.processed]
    there = sum(
        any(
            number in event.boxes
            and iou_of(reference.boxes[number][None], event.boxes[number][None])[0, 0] >= LEAST_IOU
            for event in log.events()
        )
        for number in processed
    )
    return there >= max(2, len(processed) / 2)
