"""A model file as a function from pictures to boxes: pre-processing, engine, post-processing."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Dict, List, Optional, Sequence, Tuple, Type, Union

import numpy as np

from .anchors import anchors_for
from .artifact import ArtifactMeta
from .engines.base import Engine, default_threads, open_engine
from .engines.finished import gives_boxes
from .errors import ClosedError, InputError
from .postprocess import DEFAULT_SCORE, ORIGINALS, SOFT_RULES, NmsRules, logit_of, postprocess
from .preprocess import Preprocessor
from .types import Detections, Frame, FrameResult, ModelInput, RawOutputs

ORIGINAL = "original"  # the rules of the code base that trained the model


class Detector:
    """Finds objects in pictures with one model.

    ``Detector("model.onnx")(bgr)`` is all that most programs need; ``detect`` adds the time of each stage.
    Several threads may share one Detector; it takes one picture at a time. A ``with`` block closes it.
    """

    def __init__(
        self,
        model: Union[str, Path, Tuple[ArtifactMeta, Engine]],
        threads: Optional[int] = None,
        score: float = DEFAULT_SCORE,
        soft_nms: bool = False,
        nms: Optional[Union[NmsRules, str]] = None,
    ) -> None:
        """Open a model file that edgedet wrote, or take an engine that is open already.

        threads:  CPU threads of the engine; None takes every core that the process may use.
        score:    in (0, 1); detections with a lower score are left out.
        soft_nms: lower the scores of overlapping boxes instead of dropping them, whatever the file says.
        nms:      rules of post-processing; "original": those of the code base that trained the model; None: as the
                  file says.
        Raises ArtifactError where the file is unusable, InputError for a score out of range, and for other rules than
        its own on a file whose graph applies NMS.
        """
        self.score = score  # refused before anything is opened
        self.meta, self._engine = (
            model if isinstance(model, tuple) else open_engine(model, threads or default_threads())
        )
        self.nms = self._rules(SOFT_RULES if soft_nms else nms)
        self._lock = threading.Lock()  # buffers are reused from picture to picture
        self._closed = False
        self._preprocess = Preprocessor(self.meta.spec)
        self._batch: Optional[np.ndarray] = None  # (max_batch, H, W, 3) uint8, from the first batch on
        self._anchors_yxyx = anchors_for(self.meta.spec)

    def _rules(self, nms: Optional[Union[NmsRules, str]]) -> NmsRules:
        if isinstance(nms, NmsRules):
            if gives_boxes(self.meta) and nms != self.meta.nms:
                raise InputError(
                    f"the file's graph has applied NMS, so that {nms.words} NMS would be a second one: take the file "
                    "with raw outputs, or leave the rules to the file."
                )
            return nms
        if nms not in (None, ORIGINAL):
            raise InputError(f"nms takes NmsRules or {ORIGINAL!r}; got {nms!r}.")
        takes_file = nms is None or gives_boxes(self.meta)  # whose graph has done it
        return self.meta.nms if takes_file else ORIGINALS[self.meta.spec.family]

    @property
    def score(self) -> float:
        """The threshold, in (0, 1); may be changed from any thread, and holds from the next picture on."""
        return self._score

    @score.setter
    def score(self, score: float) -> None:
        logit_of(score)  # refused now, not at the next frame
        self._score = score

    @property
    def class_names(self) -> Tuple[str, ...]:
        """Names by class id."""
        return self.meta.class_names

    def __call__(self, picture: Union[np.ndarray, Frame]) -> Detections:
        """Return the detections of one (H, W, 3) uint8 BGR picture, in its own pixels, best score first.

        Raises ShapeError for anything else, ClosedError after ``close``.
        """
        frame = picture if isinstance(picture, Frame) else Frame(picture, captured_s=0.0, index=0)
        return self.detect(frame).detections

    def detect(self, frame: Frame) -> FrameResult:
        """Return the detections of one frame, with the milliseconds of each stage.

        Raises InputError for anything but a Frame, ClosedError after ``close``.
        """
        if not isinstance(frame, Frame):
            raise InputError(f"detect takes a Frame; got {type(frame).__name__}. Call the detector with a picture.")
        with self._lock:
            if self._closed:
                raise ClosedError("this Detector was closed: make a new one of the model file.")
            return self._detect(frame)

    @property
    def max_batch(self) -> int:
        """How many frames ``detect_batch`` gives to the network at once: more than 1 if the model was exported so."""
        return self._engine.max_batch

    def detect_batch(self, frames: Sequence[Frame]) -> List[FrameResult]:
        """Return the detections of each of 1 to ``max_batch`` frames, from one run of the network, in their order.

        The milliseconds of "network" are those of the run, for which each of the frames waited.
        Raises InputError for another number of frames, else as ``detect``.
        """
        if not 1 <= len(frames) <= self.max_batch or not all(isinstance(frame, Frame) for frame in frames):
            raise InputError(f"detect_batch takes 1 to {self.max_batch} Frames; got {len(frames)}.")
        with self._lock:
            if self._closed:
                raise ClosedError("this Detector was closed: make a new one of the model file.")
            if self._batch is None:
                self._batch = np.empty((self.max_batch, *self.meta.spec.input_hw, 3), np.uint8)
            inputs: List[Tuple[ModelInput, float]] = []
            for at, frame in enumerate(frames):
                started = time.perf_counter()
                inputs.append((self._preprocess(frame.bgr), (time.perf_counter() - started) * 1e3))
                self._batch[at] = inputs[-1][0].pixels[0]  # the next picture takes its place
            started = time.perf_counter()
            raws = self._engine.infer_batch(self._batch[: len(frames)])
            network_ms = (time.perf_counter() - started) * 1e3
            return [
                self._finish(frame, raw, model_input, {"preprocess": preprocess_ms, "network": network_ms})
                for frame, raw, (model_input, preprocess_ms) in zip(frames, raws, inputs)
            ]

    def _detect(self, frame: Frame) -> FrameResult:
        started = time.perf_counter()
        model_input = self._preprocess(frame.bgr)
        fitted = time.perf_counter()
        raw = self._engine.infer(model_input.pixels)
        inferred = time.perf_counter()
        timings_ms = {"preprocess": (fitted - started) * 1e3, "network": (inferred - fitted) * 1e3}
        return self._finish(frame, raw, model_input, timings_ms)

    def _finish(
        self, frame: Frame, raw: RawOutputs, model_input: ModelInput, timings_ms: Dict[str, float]
    ) -> FrameResult:
        """Post-process one frame's outputs; its time is added to ``timings_ms``."""
        started = time.perf_counter()
        detections = postprocess(
            raw,
            self._anchors_yxyx,
            model_input.scale_to_source,
            model_input.source_hw,
            score=self.score,
            rules=self.nms,
            input_hw=self.meta.spec.input_hw,
        )
        done_ms = {"postprocess": (time.perf_counter() - started) * 1e3}
        return FrameResult(frame, detections, {**timings_ms, **done_ms})

    def close(self) -> None:
        """Free the engine, once the picture at work is done; a second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._engine.close()

    def __enter__(self) -> Detector:
        """Return the detector; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Close the detector."""
        self.close()
