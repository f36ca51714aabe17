"""Mosquitto, started by a test on a loopback port of its own, killed and started again; and a subscriber that notes."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import wait_until

MOSQUITTO = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (Debian: mosquitto)")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Broker:
    """One broker, which keeps its sessions and retained messages over a restart."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        settings = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1",
            "autosave_on_changes true",
            "user root",
            *(lines or ["allow_anonymous true"]),
        ]
        (folder / "mosquitto.conf").write_text("\n".join(settings) + "\n")
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._folder / "mosquitto.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "mosquitto ended"
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, signum: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(10)
            self._process = None


@contextmanager
def broker_in(folder: Path, *lines: str):
    broker = Broker(folder, *lines)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop(signal.SIGKILL)


class Subscriber:
    """Notes what comes, also over the broker's restarts: it has a session with a name."""

    def __init__(self, port: int, topic: str = "#", user: str | None = None, password: str | None = None) -> None:
        from paho.mqtt import client as paho

        self.messages: list[tuple[str, bytes, bool]] = []  # topic, payload and whether it was retained, of states
        self.ended: set[str] = set()  # ids of events
        self.doubles = 0
        self._events: dict[str, dict] = {}
        self.subscribed = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="noting", clean_session=False)
        if user:
            self._client.username_pw_set(user, password)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        self._client.on_message = lambda client, data, message: self._note(message)
        self._client.connect("127.0.0.1", port, keepalive=5)
        self._client.loop_start()
        assert self.subscribed.wait(10)

    def _note(self, message) -> None:
        if message.topic == "edgedet/events":
            event = json.loads(message.payload)
            self.doubles += event["message_id"] in self._events
            self._events.setdefault(event["message_id"], event)
            if event["type"] == "end":
                self.ended.add(event["after"]["id"])
        else:
            self.messages.append((message.topic, message.payload, bool(message.retain)))

    def events(self) -> list[dict]:
        """Return what was told of events, without what came twice: QoS 1 promises "at least once"."""
        return list(self._events.values())

    def newest(self, topic: str) -> bytes | None:
        payloads = [payload for name, payload, _ in list(self.messages) if name == topic]
        return payloads[-1] if payloads else None

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
