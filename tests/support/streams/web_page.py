"""A live page on loopback for tests: a server that is fed by hand, and requests over raw sockets."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.stream.camera_stats import CameraStats
from edgedet.types import Detections, Frame, FrameResult
from edgedet.web.figures import Figures
from edgedet.web.guard import Guard, Place, names_of
from edgedet.web.pictures import jpeg_of
from edgedet.web.server import web_server
from edgedet.web.subject import Places, Subject

NAMES = ("person", "car")
TOKEN = "0123456789abcdef0123"
PLACE = Place("127.0.0.1", 0)


def detected(*class_ids: int) -> Detections:
    """Return a detection of each class, at the same place."""
    n = len(class_ids)
    boxes_xyxy = np.tile(np.array([[16, 16, 96, 80]], np.float32), (n, 1))
    return Detections(boxes_xyxy, np.full(n, 0.8, np.float32), np.array(class_ids, np.int64))


def result(level: int = 0, camera: str = "", class_ids: tuple[int, ...] = (), **more: Any) -> FrameResult:
    """Return a result on an evenly grey picture of 160 x 120."""
    frame = Frame(np.full((120, 160, 3), level, np.uint8), time.monotonic(), 0, camera=camera)
    timings_ms = {"preprocess": 1.5, "network": 40.0, "postprocess": 0.4}
    return FrameResult(frame, detected(*class_ids), **{"timings_ms": timings_ms, **more})


def stats(name: str, state: str = "live", reason: str = "", **counts: Any) -> CameraStats:
    """Return a camera's figures: 100 captured, 60 processed, 37 dropped, 2 skipped, 1 stale."""
    values: dict[str, Any] = {
        "size_wh": (160, 120),
        "captured": 100,
        "processed": 60,
        "dropped": 37,
        "skipped": 2,
        "stale": 1,
        "gaps": 1,
        "gap_s": 4.5,
        "age_ms": 50.0,
        "age_p50_ms": 50.0,
        "age_p99_ms": 90.0,
    }
    return CameraStats(name=name, state=state, reason=reason, **{**values, **counts})


@dataclass
class Page:
    """A running page."""

    port: int
    put: Callable[[FrameResult], None]
    subject: Subject
    said: list[str]
    encoded: list[FrameResult] = field(default_factory=list)
    score: list[float] = field(default_factory=lambda: [0.4])


@contextlib.contextmanager
def page(
    cameras: tuple[CameraStats, ...] = (),
    token: str | None = None,
    unhealthy_s: float = 3600.0,
    viewer_token: str | None = None,
    healthy_if: str = "any",
    events: Path | None = None,
    places: Places | None = None,
) -> Iterator[Page]:
    """Yield a page that no detector feeds."""
    said: list[str] = []
    encoded: list[FrameResult] = []
    score = [0.4]

    def encode(result: FrameResult, longest_px: int) -> bytes:
        encoded.append(result)
        return jpeg_of(result, NAMES, longest_px)

    def set_score(value: float) -> None:
        score[0] = value

    subject = Subject(
        "clip.mp4",
        {"file": "m.onnx", "model": "d0", "input": "128 x 128", "precision": "fp32", "report": {}},
        lambda: list(cameras),
        Figures(NAMES),
        lambda: score[0],
        set_score,
        unhealthy_s,
        encode,
        healthy_if,
        events,
        places,
    )
    with web_server(PLACE, Guard(names_of(PLACE, ()), token, viewer_token=viewer_token), subject, said.append) as put:
        port = int(re.search(r":(\d+)/", said[0])[1])
        yield Page(port, put, subject, said, encoded, score)


def send(port: int, *lines: str, body: str = "", timeout_s: float = 120.0, source: str = "") -> socket.socket:
    """Send a request of these lines, from one of this machine's addresses, and return the connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout_s, (source, 0) if source else None)
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1"))
    return connection


def read_all(connection: socket.socket) -> bytes:
    """Read to the end of the connection."""
    parts = []
    with connection, contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def ask(
    port: int, path: str, *headers: str, method: str = "GET", body: str = "", host: str = ""
) -> tuple[int, str, str]:
    """Return (status, headers, body as latin-1) of one request; status 0 where the server hung up."""
    length = [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host or f'127.0.0.1:{port}'}",
        "Connection: close",
        *length,
        *headers,
    ]
    answer = read_all(send(port, *lines, body=body)).decode("latin-1")
    head, _, rest = answer.partition("\r\n\r\n")
    return (int(head.split()[1]) if head else 0), head, rest


def decoded(jpeg: bytes) -> np.ndarray:
    import cv2

    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
