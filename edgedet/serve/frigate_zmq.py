"""Answer Frigate's zmq detector: pictures come in over ZeroMQ, the best boxes go back.

The protocol is that of Frigate's detectors/plugins/zmq_ipc.py (commit e3fa7018, 2026-07-23), REQ to REP:
- [{"model_request": true, "model_name": ...}] -> [{"model_available": true, "model_loaded": true}];
- [{"model_data": true, ...}, bytes] -> refused: the model is this program's own;
- [{"shape", "dtype", "model_type"}, pixels] -> [float32 (20, 6)]: class, score, y1, x1, y2, x2 as shares.
There is no answer that says "wrong": what cannot be used gets no boxes, and a line here.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence

import numpy as np

from ..detector import Detector
from ..errors import InputError, require
from ..progress import Say
from ..types import Detections

ROWS = 20
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")
PIXEL_FORMATS = ("rgb", "bgr")
MOST_BYTES = 64 << 20  # of a message: a picture of 4096 x 4096 and its header
_MOST_HEADER_BYTES = 4096
_POLL_MS = 200  # how late a signal may be noticed
_TIMED = 1000  # pictures whose times are kept


@dataclass(frozen=True)
class ServeSummary:
    """What was served: pictures answered, messages refused, and milliseconds of the last pictures."""

    endpoint: str
    pictures: int
    refused: int
    p50_ms: Optional[float]
    p99_ms: Optional[float]


class FrigateAnswers:
    """Turns one request into one answer; knows no socket."""

    def __init__(self, detector: Detector, pixel_format: str, say: Say) -> None:
        """``pixel_format``: "rgb", which is Frigate's default, or "bgr"; ``say`` is told each new reason to refuse."""
        if pixel_format not in PIXEL_FORMATS:
            raise InputError(f"pixels are {' or '.join(PIXEL_FORMATS)}; got {pixel_format!r}.")
        self._detector, self._is_rgb, self._say = detector, pixel_format == "rgb", say
        self._said: Deque[str] = deque(maxlen=100)
        self._times_ms: Deque[float] = deque(maxlen=_TIMED)
        self.pictures = self.refused = 0

    def __call__(self, frames: Sequence[bytes]) -> bytes:
        """Return the answer to one message."""
        try:
            header = _header_of(frames)
            if header.get("model_request"):
                return json.dumps({"model_available": True, "model_loaded": True}).encode()
            if header.get("model_data"):
                self._refuse("a model was sent: this program serves its own, and takes none over the network")
                return json.dumps({"model_saved": False, "model_loaded": False}).encode()
            picture = _picture_of(header, frames)
        except InputError as error:
            self._refuse(str(error))
            return rows_of(Detections.empty(), 1, 1).tobytes()
        started = time.perf_counter()
        detections = self._detector(np.ascontiguousarray(picture[..., ::-1]) if self._is_rgb else picture)
        self._times_ms.append((time.perf_counter() - started) * 1e3)
        self.pictures += 1
        return rows_of(detections, *picture.shape[:2]).tobytes()

    def _refuse(self, reason: str) -> None:
        self.refused += 1
        if reason not in self._said:
            self._said.append(reason)
            self._say(f"refused: {reason}")

    def summary(self, endpoint: str) -> ServeSummary:
        """Return what was done so far."""
        times = np.array(self._times_ms)
        p50, p99 = (float(np.percentile(times, share)) for share in (50, 99)) if len(times) else (None, None)
        return ServeSummary(endpoint, self.pictures, self.refused, p50, p99)


def rows_of(detections: Detections, height: int, width: int) -> np.ndarray:
    """Return (20, 6) float32 class, score, y1, x1, y2, x2 as shares of the picture, best first, zeros behind."""
    rows = np.zeros((ROWS, 6), np.float32)
    n = min(len(detections), ROWS)
    rows[:n, 0], rows[:n, 1] = detections.class_ids[:n], detections.scores[:n]
    rows[:n, 2:] = detections.boxes_xyxy[:n, [1, 0, 3, 2]] / np.array([height, width, height, width], np.float32)
    return rows


def _header_of(frames: Sequence[bytes]) -> Dict[str, Any]:
    if not frames or len(frames[0]) > _MOST_HEADER_BYTES:
        raise InputError(f"a message without a header of at most {_MOST_HEADER_BYTES} bytes")
    try:
        header = json.loads(frames[0].decode("utf-8"))
    except (ValueError, RecursionError):
        raise InputError("a header that is no JSON") from None
    if not isinstance(header, dict):
        raise InputError("a header that is no JSON object")
    return header


def _picture_of(header: Dict[str, Any], frames: Sequence[bytes]) -> np.ndarray:
    """Return the picture (H, W, 3) uint8 of (1, H, W, 3) or (1, 3, H, W)."""
    shape, dtype = header.get("shape"), header.get("dtype")
    if not isinstance(shape, list) or len(shape) != 4 or not all(type(side) is int and side > 0 for side in shape):
        raise InputError(f"a picture of shape {shape}; wanted (1, H, W, 3)")
    if dtype != "uint8":
        raise InputError(f"pixels of type {dtype}; wanted uint8: set input_dtype: int in Frigate's model block")
    planes = shape[1] == 3 and shape[3] != 3
    if shape[0] != 1 or (shape[3] != 3 and not planes):
        raise InputError(f"a picture of shape {shape}; wanted (1, H, W, 3)")
    count = shape[1] * shape[2] * shape[3]
    if len(frames) != 2 or len(frames[1]) != count:
        sizes = [len(frame) for frame in frames[1:]]
        raise InputError(f"a picture of shape {shape} needs one part of {count} bytes; got {sizes}")
    picture = np.frombuffer(frames[1], np.uint8).reshape(shape[1:])
    return np.ascontiguousarray(picture.transpose(1, 2, 0)) if planes else picture


def check_endpoint(endpoint: str, remote: bool) -> None:
    """Raise InputError for an address that is no ZeroMQ endpoint, or that others can reach where that was not asked.

    remote: whether other machines may reach it.
    """
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc" and rest:
        folder = os.path.dirname(rest) or "."
        if not os.path.isdir(folder):
            raise InputError(f"there is no folder {folder} for the socket {endpoint}: make it, or name another.")
        return
    if scheme != "tcp" or not rest.rpartition(":")[2].isdigit():
        raise InputError(f"--zmq takes ipc://PATH or tcp://HOST:PORT; got {endpoint!r}.")
    host = rest.rpartition(":")[0]
    if host not in LOCAL_HOSTS and not remote:
        raise InputError(
            f"{endpoint} can be reached by other machines, and ZeroMQ asks for no password: take tcp://127.0.0.1:PORT, "
            "or add --remote in a network that you trust."
        )


def serve_frigate(
    endpoint: str, answers: FrigateAnswers, stopped: Callable[[], bool], bound: Callable[[str], None] = lambda _: None
) -> ServeSummary:
    """Answer requests at ``endpoint`` until ``stopped`` says so.

    bound: told the address once requests can come; a port that was given as 0 is the real one there.
    Raises MissingDependency without pyzmq, InputError where the address cannot be taken.
    """
    zmq = require("zmq", "edgedet serve --zmq")
    context = zmq.Context()
    socket = context.socket(zmq.REP)
    try:
        socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES)
        socket.setsockopt(zmq.LINGER, 0)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise InputError(f"cannot listen at {endpoint}: {error}.") from None
        bound(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        while not stopped():
            if socket.poll(_POLL_MS):
                frames: List[bytes] = socket.recv_multipart()
                socket.send(answers(frames))
    finally:
        socket.close()
        context.term()
    return answers.summary(endpoint)
