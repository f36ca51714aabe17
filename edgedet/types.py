"""The dataclasses that travel through the runtime: frames, model input, raw outputs, detections."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from .errors import InputError, ShapeError, require

INT8_MIN = -128
Scale = Union[float, Tuple[float, float]]  # of both axes, or of x and y


@dataclass(frozen=True)
class Gap:
    """A time in which a camera gave nothing new.

    reason:  why, in words.
    seconds: from the last picture before it to the first one after it.
    """

    reason: str
    seconds: float


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture as a source delivered it.

    bgr:        (H, W, 3) uint8, OpenCV's channel order.
    captured_s: seconds; media time for files, ``time.monotonic()`` at capture for live sources.
    index:      position in the source, from 0.
    name:       the image's path, "" for videos and cameras.
    camera:     the camera's name, "" for files; no password is in it.
    gap:        cameras only: what was missed since the frame before, None for nothing.
    """

    bgr: np.ndarray
    captured_s: float
    index: int
    name: str = ""
    camera: str = ""
    gap: Optional[Gap] = None

    def __post_init__(self) -> None:
        if not isinstance(self.bgr, np.ndarray):
            reason = ", as cv2.imread gives where it cannot read a file" if self.bgr is None else ""
            raise ShapeError(f"a picture is an array (H, W, 3) uint8 BGR; got {type(self.bgr).__name__}{reason}.")
        if self.bgr.ndim != 3 or self.bgr.shape[2] != 3 or self.bgr.dtype != np.uint8 or self.bgr.size == 0:
            raise ShapeError(
                f"a picture is (H, W, 3) uint8 BGR with at least one pixel; got {self.bgr.shape} {self.bgr.dtype}."
            )


@dataclass(frozen=True, eq=False)
class ModelInput:
    """The picture as the network takes it, and how to get back to the source's pixels.

    pixels:          (1, H, W, 3) uint8 BGR; a view on a buffer that the next frame overwrites.
    scale_to_source: multiply model pixels by this to get source pixels; a pair (x, y) where the axes differ.
    source_hw:       (height, width) of the source frame, for clipping.
    """

    pixels: np.ndarray
    scale_to_source: Scale
    source_hw: Tuple[int, int]


@dataclass(frozen=True)
class LevelScales:
    """How to turn one pyramid level's int8 outputs into real numbers: real = scale x (integer - zero point).

    num_anchors: number of anchors of the level.
    logits:      (scale, zero point) of its class logits.
    codes:       (scale, zero point) of its box codes.
    """

    num_anchors: int
    logits: Tuple[float, int]
    codes: Tuple[float, int]


@dataclass(frozen=True, eq=False)
class RawOutputs:
    """The network's outputs for one picture, before thresholds and NMS.

    class_logits: (A, C) float32, before the sigmoid; or int8. A anchors in the order of ``edgedet.anchors``.
    box_codes:    (A, 4) float32, ty tx th tw relative to the anchor; or int8.
    levels:       int8 only: scales and zero points, level by level from the finest. A full-INT8 network's outputs stay
                  integers, so that only those that pass the threshold are turned into real numbers.
    anchor_ids:   (A,) integers in rising order: the anchor of each row, where the network's graph has left out those
                  that it is least sure of; None where there is a row for each anchor.
    """

    class_logits: np.ndarray
    box_codes: np.ndarray
    levels: Tuple[LevelScales, ...] = ()
    anchor_ids: Optional[np.ndarray] = None

    def __post_init__(self) -> None:
        logits, codes = self.class_logits.shape, self.box_codes.shape
        if len(logits) != 2 or codes != (logits[0], 4):
            raise ShapeError(f"class_logits (A, C) need box_codes (A, 4); got {logits} and {codes}.")
        if self.levels and sum(level.num_anchors for level in self.levels) != logits[0]:
            raise ShapeError(f"{logits[0]} anchors need levels of as many; got {self.levels}.")
        if self.anchor_ids is not None and (self.anchor_ids.shape != logits[:1] or self.levels):
            raise ShapeError(f"{logits[0]} rows need as many anchor_ids, and no levels; got {self.anchor_ids.shape}.")

    @staticmethod
    def of_top_anchors(class_logits: np.ndarray, box_codes: np.ndarray, anchor_ids: np.ndarray) -> RawOutputs:
        """Return the outputs of a graph that keeps the anchors of the highest logits, in any order, in anchors' order.

        So equal scores come in the same order as from a graph that keeps all anchors.
        """
        order = np.argsort(anchor_ids)
        return RawOutputs(class_logits[order], box_codes[order], anchor_ids=anchor_ids[order])

    def logit_bounds(self, threshold: float) -> List[Tuple[int, float]]:
        """Return (end, bound) of each level: the level's anchors, up to ``end``, pass where class_logits > bound.

        threshold: a real logit. The smallest integer stands for "this or less", so it never passes.
        """
        if not self.levels:
            return [(len(self.class_logits), threshold)]
        ends = np.cumsum([level.num_anchors for level in self.levels]).tolist()
        bounds = [max(math.floor(threshold / scale + zero), INT8_MIN) for scale, zero in self._scales("logits")]
        return list(zip(ends, bounds))

    def logits_at(self, anchor_ids: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
        """Return (n,) float32 logits of n (anchor, class) pairs."""
        return self._dequantise(self.class_logits[anchor_ids, class_ids], anchor_ids, "logits")

    def codes_at(self, anchor_ids: np.ndarray) -> np.ndarray:
        """Return (n, 4) float32 box codes of n anchors."""
        return self._dequantise(self.box_codes[anchor_ids], anchor_ids, "codes")

    def real(self) -> RawOutputs:
        """Return all outputs as float32."""
        if not self.levels:
            return self
        anchor_ids = np.arange(len(self.box_codes))
        return RawOutputs(self._dequantise(self.class_logits, anchor_ids, "logits"), self.codes_at(anchor_ids))

    def _scales(self, kind: str) -> List[Tuple[float, int]]:
        return [getattr(level, kind) for level in self.levels]

    def _dequantise(self, values: np.ndarray, anchor_ids: np.ndarray, kind: str) -> np.ndarray:
        if not self.levels:
            return values
        ends = np.cumsum([level.num_anchors for level in self.levels])
        scales, zeros = np.array(self._scales(kind), dtype=np.float32)[np.searchsorted(ends, anchor_ids, "right")].T
        per_row = (-1,) + (1,) * (values.ndim - 1)
        reals: np.ndarray = (values.astype(np.float32) - zeros.reshape(per_row)) * scales.reshape(per_row)
        return reals


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of one frame, best score first.

    boxes_xyxy: (n, 4) float32, x1 y1 x2 y2, pixels of the *source* frame.
    scores:     (n,) float32 in [0, 1], after the sigmoid.
    class_ids:  (n,) int64, index into ``ArtifactMeta.class_names``.
    track_ids:  (n,) int64, the number of each one's track, -1 for none; None where nothing is tracked.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    track_ids: Optional[np.ndarray] = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.boxes_xyxy.shape != (n, 4) or self.class_ids.shape != (n,):
            raise ShapeError(
                f"{n} scores need boxes_xyxy ({n}, 4) and class_ids ({n},); "
                f"got {self.boxes_xyxy.shape} and {self.class_ids.shape}."
            )
        if self.track_ids is not None and self.track_ids.shape != (n,):
            raise ShapeError(f"{n} scores need track_ids ({n},); got {self.track_ids.shape}.")

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Union[slice, np.ndarray, Sequence[int], Sequence[bool]]) -> Detections:
        """Return some of the detections: by a boolean mask (n,), a slice, or an array of positions, in their order.

        ``detections[detections.scores >= 0.7]`` keeps the surer ones, ``detections[:3]`` the best three.
        Raises ShapeError for any other index.
        """
        if not isinstance(index, slice):
            index = np.asarray(index)
            if index.size == 0:  # [] has no type of its own
                index = index.astype(np.int64)
            if index.ndim != 1 or index.dtype.kind not in "biu":
                raise ShapeError(
                    "detections are indexed by a mask of booleans, a slice or an array of positions; got "
                    f"{index.dtype} of shape {index.shape}."
                )
            if index.dtype.kind == "b" and len(index) != len(self):
                raise ShapeError(f"a mask of {len(self)} detections has as many values; got {len(index)}.")
            if index.dtype.kind != "b" and not ((-len(self) <= index) & (index < len(self))).all():
                raise ShapeError(f"there are {len(self)} detections; got positions {index.min()} to {index.max()}.")
        track_ids = None if self.track_ids is None else self.track_ids[index]
        return Detections(self.boxes_xyxy[index], self.scores[index], self.class_ids[index], track_ids)

    def to_supervision(self, class_names: Optional[Sequence[str]] = None) -> Any:
        """Return a ``supervision.Detections``; with ``class_names`` by class id its data holds "class_name".

        Raises MissingDependency where supervision is not installed.
        """
        supervision = require("supervision", "Detections.to_supervision")
        data = {}
        if class_names is not None:
            data["class_name"] = np.array(class_names, dtype=str)[self.class_ids]
        return supervision.Detections(
            xyxy=self.boxes_xyxy.copy(),
            confidence=self.scores.copy(),
            class_id=self.class_ids.copy(),
            tracker_id=None if self.track_ids is None else self.track_ids.copy(),
            data=data,
        )

    @staticmethod
    def from_supervision(detections: Any) -> Detections:
        """Return what a ``supervision.Detections`` holds, best score first; masks and other data are left out.

        Raises InputError where it has no confidence or no class ids.
        """
        scores, class_ids = detections.confidence, detections.class_id
        if len(detections) == 0:
            return Detections.empty()
        if scores is None or class_ids is None:
            raise InputError("detections of supervision need confidence and class_id; one of them is None.")
        order = np.argsort(-scores, kind="stable")
        track_ids = detections.tracker_id
        return Detections(
            detections.xyxy[order].astype(np.float32),
            scores[order].astype(np.float32),
            class_ids[order].astype(np.int64),
            None if track_ids is None else track_ids[order].astype(np.int64),
        )

    @staticmethod
    def empty() -> Detections:
        """Return no detections, in arrays of the right types."""
        return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


@dataclass(frozen=True)
class Track:
    """An object that is followed from frame to frame.

    id:       from 1, of one camera's run.
    score:    of its newest detection, which may be below the score threshold.
    box_xyxy: of its newest detection, pixels of the source.
    seen:     whether the newest frame shows it.
    """

    id: int
    class_id: int
    score: float
    box_xyxy: Tuple[float, float, float, float]
    seen: bool


@dataclass(frozen=True, eq=False)
class FrameResult:
    """One frame with its detections.

    timings_ms: milliseconds per stage: "preprocess", "network", "postprocess".
    age_ms:     live sources only: milliseconds from the frame's capture until its detections were there.
    tracks:     those that live, also the ones that this frame does not show; None where nothing is tracked.
    """

    frame: Frame
    detections: Detections
    timings_ms: Dict[str, float] = field(default_factory=dict)
    age_ms: Optional[float] = None
    tracks: Optional[Tuple[Track, ...]] = None
