"""What the broker is told: events by names that Frigate uses, too, counts, and Home Assistant's discovery.

Pure functions; the schema is in docs/mqtt.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from .. import __version__
from ..stream.cameras.address import make_file_stem
from .outbox import Message
from .record import Event
from .watch import Change

ONLINE, OFFLINE = "online", "offline"
WITHOUT_CAMERA = "video"  # in topics of a file's frames, which have no camera


@dataclass(frozen=True)
class Topics:
    """The topics of all messages, below a prefix such as "edgedet"."""

    prefix: str

    @property
    def events(self) -> str:
        """The topic of new, changed and ended events."""
        return f"{self.prefix}/events"

    @property
    def available(self) -> str:
        """The topic of "online" or "offline"."""
        return f"{self.prefix}/available"

    def count(self, camera: str, label: str) -> str:
        """The topic of the number of a class's objects before a camera."""
        return f"{self.prefix}/{_level(camera)}/{_level(label)}"

    def snapshot(self, camera: str, label: str) -> str:
        """The topic of the JPEG of the newest object of a class."""
        return f"{self.count(camera, label)}/snapshot"

    def zone_count(self, camera: str, zone: str, label: str) -> str:
        """The topic of the number of a class's objects in a zone."""
        return f"{self.prefix}/{_level(camera)}/zone/{_level(zone)}/{_level(label)}"


def event_message(topics: Topics, change: Change) -> Message:
    """Return what is told of a change."""
    record = {
        "type": change.kind,
        "message_id": f"{change.event.id}-{change.kind}-{round(change.event.seen_s * 1000)}",
        "before": payload_of(change.before or change.event),
        "after": payload_of(change.event),
    }
    return Message(change.event.id, change.kind, topics.events, json.dumps(record).encode())


def payload_of(event: Event) -> Dict[str, Any]:
    """Return an event by Frigate's names; box and path in shares of the picture."""
    return {
        "id": event.id,
        "camera": event.camera,
        "label": event.label,
        "sub_label": None,
        "frame_time": round(event.seen_s, 3),
        "start_time": round(event.start_s, 3),
        "end_time": None if event.end_s is None else round(event.end_s, 3),
        "score": round(event.score, 4),
        "top_score": round(event.best.score, 4),
        "false_positive": False,
        "stationary": False,
        "box": [round(value, 4) for value in event.box],
        "current_zones": list(event.zones),
        "entered_zones": list(event.entered),
        "has_snapshot": bool(event.snapshot),
        "has_clip": bool(event.clips),
        "snapshot": event.snapshot,
        "clips": list(event.clips),
        "moments": [
            {"kind": moment.kind, "place": moment.place, "direction": moment.direction, "time": round(moment.utc_s, 3)}
            for moment in event.moments
        ],
        "ended_by": event.ended_by,
    }


def count_states(topics: Topics, camera: str, open_events: Sequence[Event]) -> Dict[str, bytes]:
    """Return the payload of each topic that counts a camera's objects now; those that are 0 are not in it."""
    counts: Dict[str, int] = {}
    for event in open_events:
        for topic in (
            topics.count(camera, event.label),
            *(topics.zone_count(camera, zone, event.label) for zone in event.zones),
        ):
            counts[topic] = counts.get(topic, 0) + 1
    return {topic: str(count).encode() for topic, count in counts.items()}


Known = Tuple[str, Optional[str], str]  # camera, zone or None, label


def discovery(topics: Topics, node: str, known: Iterable[Known], discovery_prefix: str) -> Tuple[str, bytes]:
    """Return topic and payload of Home Assistant's device-based discovery for what is counted.

    known: (camera, zone, label); for each a number and an occupancy sensor, and a picture where there is no zone.
    """
    components: Dict[str, Any] = {}
    for camera, zone, label in sorted(set(known), key=str):
        where = camera or WITHOUT_CAMERA
        place = f"{where} {zone}" if zone else where
        topic = topics.zone_count(camera, zone, label) if zone else topics.count(camera, label)
        key = _level("_".join(part for part in (node, where, zone, label) if part))
        components[f"{key}_count"] = {
            "platform": "sensor",
            "name": f"{place} {label} count",
            "unique_id": f"{key}_count",
            "state_topic": topic,
            "state_class": "measurement",
            "icon": "mdi:counter",
        }
        components[f"{key}_occupancy"] = {
            "platform": "binary_sensor",
            "name": f"{place} {label}",
            "unique_id": f"{key}_occupancy",
            "state_topic": topic,
            "device_class": "occupancy",
            "value_template": "{{ 'ON' if value | int(0) > 0 else 'OFF' }}",
        }
        if zone is None:
            components[f"{key}_snapshot"] = {
                "platform": "image",
                "name": f"{place} {label} picture",
                "unique_id": f"{key}_snapshot",
                "image_topic": topics.snapshot(camera, label),
                "content_type": "image/jpeg",
            }
    payload = {
        "device": {"identifiers": [f"edgedet_{node}"], "name": f"edgedet {node}", "manufacturer": "edgedet"},
        "origin": {"name": "edgedet", "sw_version": __version__},
        "components": components,
        "availability": [{"topic": topics.available, "payload_available": ONLINE, "payload_not_available": OFFLINE}],
        "qos": 1,
    }
    return f"{discovery_prefix}/device/edgedet_{_level(node)}/config", json.dumps(payload).encode()


def known_of(camera: str, open_events: Sequence[Event]) -> List[Known]:
    """Return what is counted of some events."""
    known: List[Known] = []
    for event in open_events:
        known.append((camera, None, event.label))
        known += [(camera, zone, event.label) for zone in event.entered]
    return known


def _level(name: str) -> str:
    """Return a name as one level of a topic: letters of any script, digits, "_", dots and dashes."""
    return make_file_stem(name) if name else WITHOUT_CAMERA
