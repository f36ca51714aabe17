"""A client that asks as Frigate does, and servers of fake models for it, in a thread or step by step."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from waiting import wait_until

from edgedet import Detector
from edgedet.artifact import ArtifactMeta
from edgedet.engines.fake import FakeEngine
from edgedet.serve.frigate_answers import FrigateAnswers
from edgedet.serve.frigate_zmq import Clients, serve_frigate
from edgedet.specs import resized, spec_for
from edgedet.types import RawOutputs

BOXES = [(0, 0.9, (16.0, 32.0, 80.0, 96.0)), (1, 0.6, (64.0, 64.0, 128.0, 128.0)), (1, 0.2, (0.0, 0.0, 30.0, 30.0))]


def meta() -> ArtifactMeta:
    spec = replace(resized(spec_for("tf_efficientdet_d0"), (128, 128)), num_classes=2)
    return ArtifactMeta(spec, ("person", "car"), "fp32", "0" * 64)


class FrigateClient:
    """Speaks as Frigate's ZmqIpcDetector does: REQ, one JSON header, raw bytes."""

    def __init__(self, endpoint: str, kind: int = zmq.REQ) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(kind)
        self.socket.setsockopt(zmq.RCVTIMEO, 30_000)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    def send(self, header: Any, *parts: bytes) -> None:
        self.socket.send_multipart([header if isinstance(header, bytes) else json.dumps(header).encode(), *parts])

    def ask(self, header: Any, *parts: bytes) -> list[bytes]:
        self.send(header, *parts)
        return self.socket.recv_multipart()

    def send_picture(self, picture: np.ndarray) -> None:
        header = {"shape": list(picture.shape), "dtype": picture.dtype.name, "model_type": "ssd"}
        self.send(header, picture.tobytes(order="C"))

    def receive(self) -> np.ndarray:
        (answer,) = self.socket.recv_multipart()
        assert len(answer) == 20 * 6 * 4
        return np.frombuffer(answer, np.float32).reshape(20, 6)

    def detect(self, picture: np.ndarray) -> np.ndarray:
        self.send_picture(picture)
        return self.receive()

    def close(self) -> None:
        self.socket.close()
        self._context.term()


class ScoringEngine(FakeEngine):
    """Finds one box, whose score says which picture it belongs to: the first pixel / 100. Keeps each run's pixels."""

    def __init__(self, max_batch: int = 1) -> None:
        super().__init__(replace(meta(), max_batch=max_batch), [])
        self.runs: list[list[int]] = []

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        return self.infer_batch(pixels)[0]

    def infer_batch(self, pixels: np.ndarray) -> list[RawOutputs]:
        self.runs.append([int(picture[0, 0, 0]) for picture in pixels])
        return [FakeEngine(meta(), [(0, value / 100, BOXES[0][2])]).infer(pixels[:1]) for value in self.runs[-1]]


def plain(value: int) -> np.ndarray:
    return np.full((1, 128, 128, 3), value, np.uint8)


@contextmanager
def served(folder: Path, engine: FakeEngine, say: Any = print) -> Iterator[str]:
    """A server in a thread of this process: its endpoint."""
    ended, bound, endpoint = threading.Event(), threading.Event(), f"ipc://{folder}/frigate"
    answers = FrigateAnswers(Detector((meta(), engine)), "rgb", say)
    arguments = (endpoint, answers, ended.is_set, lambda _: bound.set())
    server = threading.Thread(target=serve_frigate, args=arguments)
    server.start()
    try:
        assert bound.wait(30)
        yield endpoint
    finally:
        ended.set()
        server.join()


class Stepped:
    """A server that does one step when the test says so, so that what waits is known."""

    def __init__(self, folder: Path, batch: int = 1, say: Any = print, timeout_ms: float | None = None) -> None:
        self.engine = ScoringEngine(batch)
        detector = Detector((replace(meta(), max_batch=batch), self.engine))
        self.answers = FrigateAnswers(detector, "rgb", say, batch, timeout_ms)
        self._context = zmq.Context()
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.LINGER, 0)
        self._monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._endpoint = f"ipc://{folder}/frigate"
        socket.bind(self._endpoint)
        self.clients = Clients(socket, self.answers)
        self._sockets = [socket, self._monitor]
        self._asking: list[FrigateClient] = []

    def client(self, kind: int = zmq.REQ) -> FrigateClient:
        self._asking.append(FrigateClient(self._endpoint, kind))
        return self._asking[-1]

    def wait_for(self, count: int) -> None:
        """Take in requests until so many wait."""
        wait_until(lambda: self.clients.receive() or len(self.clients.waiting) == count)

    def wait_until_gone(self) -> None:
        """Wait until a client's connection has ended."""
        assert self._monitor.poll(60_000)
        self._monitor.recv_multipart()

    def close(self) -> None:
        for client in self._asking:
            client.close()
        self._sockets[0].disable_monitor()
        for socket in self._sockets:
            socket.close()
        self._context.term()
