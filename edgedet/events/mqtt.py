"""Tell an MQTT broker of events: messages from the disk until the broker has them, states as they are now.

Messages are in the store's database before anything is sent, and go when the broker has confirmed them (QoS 1). What is
a state (counts, pictures, availability, Home Assistant's discovery) is retained by the broker, and sent anew after each
connection; of a state only the newest value counts.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import ssl
import threading
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Deque, Dict, Iterator, List, Mapping, Optional, Sequence, Set

from ..errors import InputError, require
from ..progress import Say
from .announce import OFFLINE, ONLINE, Known, Topics, count_states, discovery, event_message, known_of
from .mqtt_options import MqttOptions
from .outbox import Message, confirm, take_messages, waiting
from .record import Event
from .sink import Publisher
from .store import DATABASE, EventStore
from .watch import Change

KEEPALIVE_S = 30
_IN_FLIGHT = 20  # messages that are sent and not confirmed
_POLL_S = 1.0
_LONGEST_RETRY_S = 30
_LONGEST_CLOSE_S = 5.0


@contextmanager
def mqtt_publisher(options: MqttOptions, folder: Path, say: Say) -> Iterator[Publisher]:
    """Yield a publisher that tells the broker of the events stored in ``folder``; at the end it says "offline".

    A broker that is away is no error: it is reported, and messages wait on the disk.
    Raises MissingDependency without paho-mqtt, InputError for certificates or a folder that cannot be used.
    """
    require("paho.mqtt.client", "MQTT")
    EventStore(folder).close()  # so that its tables are there
    publisher = _MqttPublisher(options, folder, say)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop()


class _MqttPublisher(Publisher):
    """Messages are formed in the thread that writes events, and sent by a thread of its own."""

    def __init__(self, options: MqttOptions, folder: Path, say: Say) -> None:
        self._options, self._folder, self._say = options, folder, say
        self._topics = Topics(options.prefix)
        self._node = options.node or socket.gethostname()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        # Guarded by ``_lock``:
        self._states: Dict[str, bytes] = {}
        self._unsent: Set[str] = set()
        self._known: Set[Known] = set()
        self._online = self._ending = False
        # Of the sending thread, but that paho's thread appends to the first one; it must not wait for a lock there:
        self._acknowledged: Deque[int] = deque()  # paho's numbers of messages
        self._in_flight: Dict[int, int] = {}  # paho's number of a message -> ours
        self._last = 0  # our number of the last message that was sent
        self._complaint = ""
        self._client = self._make_client()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    # --- from the thread that writes events --------------------------------------------------------------------------

    def messages_of(self, change: Change) -> List[Message]:
        return [event_message(self._topics, change)]

    def stored(self, camera: str, open_events: Sequence[Event], pictures: Mapping[str, bytes]) -> None:
        with self._lock:
            self._learn(known_of(camera, open_events))
            counts = count_states(self._topics, camera, open_events)
            for known in self._known:
                if known[0] == camera:
                    topic = self._count_topic(known)
                    self._set(topic, counts.get(topic, b"0"))
            for label, jpeg in pictures.items():
                self._set(self._topics.snapshot(camera, label), jpeg)
        self._wake.set()

    def _count_topic(self, known: Known) -> str:
        camera, zone, label = known
        return self._topics.zone_count(camera, zone, label) if zone else self._topics.count(camera, label)

    def _learn(self, new: Sequence[Known]) -> None:
        if set(new) <= self._known:
            return
        self._known.update(new)
        if self._options.discovery:
            self._set(*discovery(self._topics, self._node, self._known, self._options.discovery))

    def _set(self, topic: str, payload: bytes) -> None:
        if self._states.get(topic) != payload:
            self._states[topic] = payload
            self._unsent.add(topic)

    # --- the client --------------------------------------------------------------------------------------------------

    def _make_client(self) -> Any:
        from paho.mqtt import client as paho

        options = self._options
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"edgedet-{self._node}-{os.getpid()}")
        if options.user:
            client.username_pw_set(options.user, options.password)
        if options.tls:
            try:
                client.tls_set(
                    ca_certs=None if options.ca is None else str(options.ca),
                    certfile=None if options.cert is None else str(options.cert),
                    keyfile=None if options.key is None else str(options.key),
                    tls_version=ssl.PROTOCOL_TLS_CLIENT,
                )
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                raise InputError(f"the certificates for MQTT cannot be used: {error}.") from None
        client.will_set(self._topics.available, OFFLINE, qos=1, retain=True)
        client.max_inflight_messages_set(_IN_FLIGHT)
        client.reconnect_delay_set(1, _LONGEST_RETRY_S)
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda client, data: self._lost("it does not answer")
        client.on_disconnect = lambda client, data, flags, reason, properties: self._lost(str(reason))
        client.on_publish = lambda client, data, mid, reason, properties: self._on_published(mid)
        return client

    def start(self) -> None:
        """Begin to connect, and go on trying."""
        self._client.connect_async(self._options.host, self._options.port, KEEPALIVE_S)
        self._client.loop_start()
        self._thread.start()

    def stop(self) -> None:
        """Send what can be sent, say "offline", and disconnect."""
        with self._lock:
            self._ending = True
        self._wake.set()
        self._thread.join(_LONGEST_CLOSE_S)
        if self._online:
            with suppress(ValueError, RuntimeError):
                self._client.publish(self._topics.available, OFFLINE, qos=1, retain=True).wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._lost(str(reason))
            return
        client.publish(self._topics.available, ONLINE, qos=1, retain=True)
        with self._lock:
            self._unsent.update(self._states)
            self._online = True
        self._wake.set()
        if self._complaint:
            self._say(f"mqtt: {self._options.host} answers again")
        self._complaint = ""

    def _lost(self, reason: str) -> None:
        with self._lock:
            self._online = False
            ending = self._ending
        if reason != self._complaint and not ending:
            self._complaint = reason
            self._say(f"mqtt: no connection to {self._options.host}:{self._options.port}: {reason}; events wait")

    def _on_published(self, mid: int) -> None:
        self._acknowledged.append(mid)
        self._wake.set()

    # --- the thread that sends ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        db: Optional[sqlite3.Connection] = None
        while True:
            self._wake.wait(_POLL_S)
            self._wake.clear()
            with self._lock:
                ending, online = self._ending, self._online
                states = {topic: self._states[topic] for topic in self._unsent} if online else {}
                self._unsent -= set(states)
            for topic, payload in states.items():
                self._client.publish(topic, payload, qos=1, retain=True)
            left = 0
            try:
                db = db or self._open()
                self._confirm(db)
                if online:
                    self._send(db)
                left = waiting(db)[0] if ending else 0
            except sqlite3.Error as error:
                self._say(f"mqtt: {error} in {self._folder / DATABASE}; trying again")
            if ending and (not online or not left):
                break
        if db is not None:
            db.close()

    def _open(self) -> sqlite3.Connection:
        """Open the store; what was sent in a run before and not confirmed goes again."""
        db = sqlite3.connect(self._folder / DATABASE, timeout=10.0, isolation_level=None, check_same_thread=False)
        # Here a power cut costs a confirmation at most, so a message would come twice, with the same message_id.
        db.execute("pragma synchronous=normal")
        db.execute("update outbox set taken=0")
        labels = db.execute("select distinct camera, label from events").fetchall()
        with self._lock:
            self._learn([(camera, None, label) for camera, label in labels])
            for known in self._known:  # the broker may remember what was there when a run was killed
                self._states.setdefault(self._count_topic(known), b"0")
                self._unsent.add(self._count_topic(known))
        self._wake.set()
        return db

    def _confirm(self, db: sqlite3.Connection) -> None:
        while self._acknowledged:
            number = self._in_flight.pop(self._acknowledged.popleft(), None)
            if number is not None:  # else it was a state
                confirm(db, number)

    def _send(self, db: sqlite3.Connection) -> None:
        room = _IN_FLIGHT - len(self._in_flight)
        if room <= 0:
            return
        for number, message in take_messages(db, self._last, room):
            info = self._client.publish(message.topic, message.payload, qos=1)
            self._in_flight[info.mid] = number
            self._last = number
