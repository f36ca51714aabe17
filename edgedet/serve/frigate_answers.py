"""Answer the messages of Frigate's zmq detector: a picture comes in, the best boxes go back.

The protocol is that of Frigate's detectors/plugins/zmq_ipc.py (commit e3fa7018, 2026-07-23):
- [{"model_request": true, "model_name": ...}] -> [{"model_available": true, "model_loaded": true}];
- [{"model_data": true, ...}, bytes] -> refused: the model is this program's own;
- [{"shape", "dtype", "model_type"}, pixels] -> [float32 (20, 6)]: class, score, y1, x1, y2, x2 as shares.
There is no answer that says "wrong": what cannot be used gets no boxes, and a line here.
"""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Deque, Dict, List, Optional, Sequence, Union

import numpy as np

from ..detector import Detector
from ..errors import InputError, require
from ..progress import Say
from ..types import Detections, Frame

ROWS = 20
PIXEL_FORMATS = ("rgb", "bgr")
TIMEOUT_MS = 200  # that Frigate's detector waits where request_timeout_ms says nothing else
_MOST_HEADER_BYTES = 4096
_TIMED = 1000  # pictures whose times are kept


@dataclass(frozen=True)
class ServeSummary:
    """What was served.

    pictures: answered; runs: of the network, of which each took one picture or several.
    refused:  messages that could not be used.
    late:     pictures whose client had stopped waiting, or would have before the answer came; looked at or not.
    p50_ms, p99_ms: of the last pictures, from the beginning of the run to the boxes.
    """

    endpoint: str
    pictures: int
    runs: int
    refused: int
    late: int
    p50_ms: Optional[float]
    p99_ms: Optional[float]


class FrigateAnswers:
    """Turns requests into answers."""

    def __init__(
        self, detector: Detector, pixel_format: str, say: Say, batch: int = 1, timeout_ms: Optional[float] = None
    ) -> None:
        """``pixel_format``: "rgb", which is Frigate's default, or "bgr"; ``say`` is told each new reason to refuse.

        batch:      how many pictures go through the network at once, at most the detector's ``max_batch``.
        timeout_ms: how long clients wait for an answer; None: without a limit.
        """
        if pixel_format not in PIXEL_FORMATS:
            raise InputError(f"pixels are {' or '.join(PIXEL_FORMATS)}; got {pixel_format!r}.")
        self._cv2 = require("cv2", "edgedet serve")
        self._detector, self._is_rgb, self._say, self.batch = detector, pixel_format == "rgb", say, batch
        self._timeout_ms = timeout_ms
        self._said: Deque[str] = deque(maxlen=100)
        self._times_ms: Deque[float] = deque(maxlen=_TIMED)
        self.pictures = self.runs = self.refused = self.late = 0

    def read(self, frames: Sequence[bytes]) -> Union[np.ndarray, bytes]:
        """Return the picture of a message, (H, W, 3) uint8 as it came, or the answer to one that asks for no boxes."""
        try:
            header = _header_of(frames)
            if header.get("model_request"):
                return json.dumps({"model_available": True, "model_loaded": True}).encode()
            if header.get("model_data"):
                self.refuse("it sends a model, but this program serves its own and takes none over the network")
                return json.dumps({"model_saved": False, "model_loaded": False}).encode()
            return _picture_of(header, frames)
        except InputError as error:
            self.refuse(str(error))
            return self.no_boxes()

    def detect(self, pictures: Sequence[np.ndarray]) -> List[bytes]:
        """Return the answers to 1 to ``batch`` pictures, from one run of the network."""
        started = time.perf_counter()
        if self._is_rgb:
            pictures = [self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2BGR) for picture in pictures]
        frames = [Frame(picture, 0.0, 0) for picture in pictures]
        detector = self._detector
        results = detector.detect_batch(frames) if len(frames) > 1 else [detector.detect(frames[0])]
        self._times_ms.extend([(time.perf_counter() - started) * 1e3] * len(pictures))
        self.pictures += len(pictures)
        self.runs += 1
        return [rows_of(result.detections, *result.frame.bgr.shape[:2]).tobytes() for result in results]

    def no_boxes(self) -> bytes:
        """Return the answer to a picture that is not looked at."""
        return rows_of(Detections.empty(), 1, 1).tobytes()

    def longest_wait_s(self) -> Optional[float]:
        """Return the longest wait of a picture whose answer can still come in time; None: there is no limit.

        It is None, too, where the network itself takes longer than clients wait: then no answer comes in time.
        """
        if self._timeout_ms is None or not self._times_ms:
            return None
        left_ms = self._timeout_ms - self._times_ms[-1]
        return left_ms / 1e3 if left_ms > 0 else None

    def note_late(self) -> None:
        """Count a picture whose answer came too late or would have; say what helps the first time."""
        self.late += 1
        if self.late == 1:
            waits = "" if self._timeout_ms is None else f" of {self._timeout_ms:g} ms"
            self._say(
                f"an answer did not come within a client's time{waits}: if that goes on, take a smaller model, or let "
                "clients wait for longer (Frigate: request_timeout_ms) and say so with --timeout"
            )

    def refuse(self, reason: str) -> None:
        """Count a message that cannot be used; name a reason the first time."""
        self.refused += 1
        if reason not in self._said:
            self._said.append(reason)
            self._say(f"a message was refused: {reason}")

    def summary(self, endpoint: str) -> ServeSummary:
        """Return what was done so far."""
        times = np.array(self._times_ms)
        p50, p99 = (float(np.percentile(times, share)) for share in (50, 99)) if len(times) else (None, None)
        return ServeSummary(endpoint, self.pictures, self.runs, self.refused, self.late, p50, p99)


def rows_of(detections: Detections, height: int, width: int) -> np.ndarray:
    """Return (20, 6) float32 class, score, y1, x1, y2, x2 as shares of the picture, best first, zeros behind."""
    rows = np.zeros((ROWS, 6), np.float32)
    n = min(len(detections), ROWS)
    rows[:n, 0], rows[:n, 1] = detections.class_ids[:n], detections.scores[:n]
    rows[:n, 2:] = detections.boxes_xyxy[:n, [1, 0, 3, 2]] / np.array([height, width, height, width], np.float32)
    return rows


def _header_of(frames: Sequence[bytes]) -> Dict[str, Any]:
    if not frames or len(frames[0]) > _MOST_HEADER_BYTES:
        raise InputError(f"it has no header of at most {_MOST_HEADER_BYTES} bytes")
    try:
        header = json.loads(frames[0].decode("utf-8"))
    except (ValueError, RecursionError):
        raise InputError("its header is no JSON") from None
    if not isinstance(header, dict):
        raise InputError("its header is no JSON object")
    return header


def _picture_of(header: Dict[str, Any], frames: Sequence[bytes]) -> np.ndarray:
    """Return the picture (H, W, 3) uint8 of (1, H, W, 3) or (1, 3, H, W)."""
    shape, dtype = header.get("shape"), header.get("dtype")
    if not isinstance(shape, list) or len(shape) != 4 or not all(type(side) is int and side > 0 for side in shape):
        raise InputError(f"its picture has the shape {shape}; wanted (1, H, W, 3)")
    if dtype != "uint8":
        raise InputError(f"its pixels are of type {dtype}; wanted uint8: set input_dtype: int in Frigate's model block")
    planes = shape[1] == 3 and shape[3] != 3
    if shape[0] != 1 or (shape[3] != 3 and not planes):
        raise InputError(f"its picture has the shape {shape}; wanted (1, H, W, 3)")
    count = shape[1] * shape[2] * shape[3]
    if len(frames) != 2 or len(frames[1]) != count:
        sizes = [len(frame) for frame in frames[1:]]
        raise InputError(f"its picture of shape {shape} needs one part of {count} bytes; got {sizes}")
    picture = np.frombuffer(frames[1], np.uint8).reshape(shape[1:])
    return np.ascontiguousarray(picture.transpose(1, 2, 0)) if planes else picture
