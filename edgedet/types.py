"""The dataclasses that travel through the runtime. Knows numpy only; knows no engine and no camera."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Tuple

import numpy as np

from .errors import ShapeError


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture as a source delivered it.

    bgr:        (H, W, 3) uint8, OpenCV's channel order.
    captured_s: seconds; media time for files, ``time.monotonic()`` at capture for live sources.
    index:      position in the source, from 0.
    name:       the image's path, "" for videos and cameras.
    """

    bgr: np.ndarray
    captured_s: float
    index: int
    name: str = ""

    def __post_init__(self) -> None:
        if self.bgr.ndim != 3 or self.bgr.shape[2] != 3 or self.bgr.dtype != np.uint8:
            raise ShapeError(f"a frame is (H, W, 3) uint8 BGR; got {self.bgr.shape} {self.bgr.dtype}.")


@dataclass(frozen=True, eq=False)
class ModelInput:
    """What an engine is fed.

    pixels:          (1, H, W, 3) uint8 BGR; a view on a buffer that the next frame overwrites.
    scale_to_source: multiply model pixels by this to get source pixels (same for x and y).
    source_hw:       (height, width) of the source frame, for clipping.
    """

    pixels: np.ndarray
    scale_to_source: float
    source_hw: Tuple[int, int]


@dataclass(frozen=True, eq=False)
class RawOutputs:
    """What the network says of one picture, before any decision.

    class_logits: (A, C) float32, before the sigmoid. A anchors in the order of ``edgedet.anchors``.
    box_codes:    (A, 4) float32, ty tx th tw relative to the anchor.
    """

    class_logits: np.ndarray
    box_codes: np.ndarray

    def __post_init__(self) -> None:
        logits, codes = self.class_logits.shape, self.box_codes.shape
        if len(logits) != 2 or codes != (logits[0], 4):
            raise ShapeError(f"class_logits (A, C) need box_codes (A, 4); got {logits} and {codes}.")


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one frame, best score first.

    boxes_xyxy: (n, 4) float32, x1 y1 x2 y2, pixels of the *source* frame.
    scores:     (n,) float32 in [0, 1], after the sigmoid.
    class_ids:  (n,) int64, index into ``ArtifactMeta.class_names``.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.boxes_xyxy.shape != (n, 4) or self.class_ids.shape != (n,):
            raise ShapeError(
                f"{n} scores need boxes_xyxy ({n}, 4) and class_ids ({n},); "
                f"got {self.boxes_xyxy.shape} and {self.class_ids.shape}."
            )

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class FrameResult:
    """One frame with what was found in it.

    timings_ms: milliseconds per stage: "preprocess", "network", "postprocess".
    """

    frame: Frame
    detections: Detections
    timings_ms: Dict[str, float] = field(default_factory=dict)
