"""Which model looks at which camera: each file is opened once, and all models' classes get one list of names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..detector import Detector
from ..motion.gate import MotionRules
from ..motion.gated import GatedDetector
from ..motion.packing import make_look
from ..stream.loop import Batch
from ..types import Frame, FrameResult
from .models import ExportDemo, ModelOptions, open_detectors

Detect = Callable[[Frame], FrameResult]


@dataclass(frozen=True, eq=False)
class CameraModels:
    """The opened models of a run.

    files:     of ``detectors``, which are different models or copies of one.
    of_camera: position in ``detectors``, by camera; of one model it is empty.
    """

    files: Tuple[Path, ...]
    detectors: Tuple[Detector, ...]
    of_camera: Mapping[str, int]

    @property
    def class_names(self) -> Tuple[str, ...]:
        """Names by class id: the first model's, then what the others add."""
        return tuple(dict.fromkeys(name for detector in self.detectors for name in detector.class_names))

    @property
    def several(self) -> bool:
        """Whether there is more than one model, and not copies of one."""
        return bool(self.of_camera)

    def detect_functions(self) -> List[Detect]:
        """Return functions that detect in a frame: copies that may run at once, or one function for several models."""
        if not self.several:
            return [detector.detect for detector in self.detectors]
        detects = [detector.detect for detector in self.detectors]
        renamed = self._class_ids()
        return [lambda frame: _with_class_ids(detects[self._at(frame)](frame), renamed[self._at(frame)])]

    def gate(self, rules: MotionRules) -> Batch:
        """Return what detects behind the motion gate, in frames of several cameras at once."""
        gates = []
        for detector in self.detectors:
            input_px = min(detector.meta.spec.input_hw)
            gates.append(GatedDetector(make_look(detector.detect, input_px), rules, input_px))
        renamed = self._class_ids()

        def add(frame: Frame) -> bool:
            return gates[self._at(frame)].add(frame)

        def detect(frames: Sequence[Frame]) -> List[FrameResult]:
            results: Dict[int, FrameResult] = {}
            for at, gate in enumerate(gates):
                mine = [number for number, frame in enumerate(frames) if self._at(frame) == at]
                for number, result in zip(mine, gate.detect_batch([frames[number] for number in mine])):
                    results[number] = _with_class_ids(result, renamed[at])
            return [results[number] for number in range(len(frames))]

        return Batch(detect, max(len(self.of_camera), 1), add)

    def _at(self, frame: Frame) -> int:
        return self.of_camera.get(frame.camera, 0)

    def _class_ids(self) -> List[np.ndarray]:
        """Return for each model its classes' positions in ``class_names``."""
        position = {name: at for at, name in enumerate(self.class_names)}
        return [np.array([position[name] for name in detector.class_names], np.int64) for detector in self.detectors]


def _with_class_ids(result: FrameResult, class_ids: np.ndarray) -> FrameResult:
    detections = result.detections
    return replace(result, detections=replace(detections, class_ids=class_ids[detections.class_ids]))


def open_camera_models(
    options: ModelOptions, models: Mapping[str, Optional[str]], live: bool, export_demo: ExportDemo
) -> CameraModels:
    """Open the model of a run, or the models of its cameras: a file that several of them name is opened once.

    models: of each camera its file, None for the run's own model; empty where all cameras have that one.
    Raises as ``open_detectors``; then nothing stays open.
    """
    if not any(models.values()):
        path, detectors = open_detectors(options, live, export_demo)
        return CameraModels((path,) * len(detectors), tuple(detectors), {})
    files: List[Path] = []
    opened: List[Detector] = []
    numbers: Dict[Optional[str], int] = {}
    of_camera: Dict[str, int] = {}
    try:
        for camera, model in models.items():
            name = model or options.path
            key = None if name is None else str(Path(name).resolve())
            if key not in numbers:
                numbers[key] = len(opened)
                path, (detector,) = open_detectors(replace(options, path=name), True, export_demo)
                files.append(path)
                opened.append(detector)
            of_camera[camera] = numbers[key]
    except BaseException:
        for detector in opened:
            detector.close()
        raise
    return CameraModels(tuple(files), tuple(opened), of_camera)
