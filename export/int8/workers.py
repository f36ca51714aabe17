"""The large parts of an INT8 export, observing and judging, by this process or by others with the same results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import onnx

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.ranges.observe import FrameTask, ObservedFrame
from edgedet.engines.base import Engine, open_engine
from edgedet.judge.gate.pseudo_labels import detections_on
from edgedet.progress import with_progress
from edgedet.types import Detections, ModelInput


class FrameDetector(Protocol):
    """A model file that gives its detections in many frames."""

    def detect(self, frames: Iterable[ModelInput], score: float) -> list[Detections]:
        """Return what the file detects in each frame from ``score`` up, in pixels of its source.

        A sequence may be asked for its frames one by one, and more than once.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


OpenDetector = Callable[[Path], FrameDetector]


class Workers(Protocol):
    """Processes that observe calibration frames and run the files that are judged, with the results of one process."""

    def observe_frames(self, model: onnx.ModelProto, tasks: list[FrameTask]) -> Iterable[ObservedFrame]:
        """Return what the float graph computes in each frame, in the order of the tasks."""
        ...

    def open_detector(self, path: Path) -> FrameDetector:
        """Open a model file."""
        ...


class EngineDetector:
    """An engine of this process as a ``FrameDetector``."""

    def __init__(self, meta: ArtifactMeta, engine: Engine, shows_progress: bool = True) -> None:
        """``meta``: of the engine's file, whose rules of post-processing are followed."""
        self._meta, self._engine, self._shows_progress = meta, engine, shows_progress

    def detect(self, frames: Iterable[ModelInput], score: float) -> list[Detections]:
        """Return the detections of each frame."""
        shown = with_progress(frames, "judging", "frame") if self._shows_progress else frames
        return detections_on(self._engine.infer, self._meta, shown, score)

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def open_here(path: Path, threads: int, shows_progress: bool = True) -> EngineDetector:
    """Open a model file in this process."""
    return EngineDetector(*open_engine(path, threads), shows_progress)
