"""Choose the model of a run, and open one or several copies of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Tuple, Union

from ..artifact import ArtifactMeta
from ..demo import int8_model
from ..detector import Detector
from ..engines.base import Engine, open_engine, rebuild_model
from ..engines.table import PUBLIC_ENGINES, engine_for
from ..errors import ArtifactError, InputError, MissingDependency, OutdatedError, require
from ..files import MODELS_FOLDER
from ..postprocess import DEFAULT_SCORE

FILE_DETECTORS = 2  # copies that run at the same time on a file's frames, so that no core waits for another

ExportDemo = Callable[[Path], Path]  # writes the bundled model into a folder as ONNX; host code


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it runs.

    path:     model file; None: the newest in MODELS_FOLDER that opens, else the bundled demo.
    threads:  CPU threads, shared by all copies of the model.
    score:    threshold of detections, in (0, 1).
    delegate: library that runs the operators of a TFLite file that it supports.
    """

    path: Optional[str]
    threads: int
    score: float = DEFAULT_SCORE
    delegate: Optional[str] = None


def open_detectors(options: ModelOptions, live: bool, export_demo: ExportDemo) -> Tuple[Path, List[Detector]]:
    """Return the model's file and its detectors: one for cameras (``live``), up to FILE_DETECTORS copies for a file.

    The copies share the threads.

    Raises ArtifactError where the model cannot be used, MissingDependency where its engine is not installed.
    """
    may_copy = options.delegate is None and (options.path is None or _runs_side_by_side(options.path))
    copies = FILE_DETECTORS if may_copy and not live and options.threads >= FILE_DETECTORS else 1
    threads = options.threads // copies
    path, detector = _open_detector(options, threads, export_demo)
    if not _runs_side_by_side(path):  # the newest export may be a GPU's
        copies = 1
    return path, [detector, *(Detector(path, threads, options.score) for _ in range(copies - 1))]


def _runs_side_by_side(model: Union[str, Path]) -> bool:
    engine = engine_for(model)
    return engine is not None and engine.side_by_side


def _open_detector(options: ModelOptions, threads: int, export_demo: ExportDemo) -> Tuple[Path, Detector]:
    """Return the model to use: the one named, else the newest export that opens, else the demo.

    INT8 ONNX files are TensorRT's and slow on a CPU, so they are left out; an INT8 TFLite file is written after its
    float ONNX file, so it comes first where LiteRT is installed: 34 against 84 ms, D0, one x86 thread (docs/tflite.md).
    """
    require("cv2", "edgedet run").setNumThreads(threads)
    if options.path is not None:
        opened = _open_engine(options.path, threads, options.delegate)
        return Path(options.path), Detector(opened, score=options.score)
    if options.delegate is not None:
        raise InputError("--delegate runs a TFLite file: name one, as in `edgedet run model.tflite --delegate LIB`.")
    exports = [
        path
        for path in MODELS_FOLDER.glob("*")
        if any(engine.chooses(path) for engine in PUBLIC_ENGINES) and not path.name.startswith(".")  # being written
    ]
    for path in sorted(exports, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            return path, Detector(_open_engine(path, threads), score=options.score)
        except (ArtifactError, MissingDependency) as error:
            print(f"edgedet: passed over: {error}", file=sys.stderr)
    if exports:
        raise ArtifactError(f"no model in {MODELS_FOLDER}/ can be used: name one, or run `edgedet export` again.")
    demo = int8_model() or _exported_demo(export_demo)
    return demo, Detector(demo, threads, options.score)


def _open_engine(path: Union[str, Path], threads: int, delegate: Optional[str] = None) -> Tuple[ArtifactMeta, Engine]:
    """Open a model; one that was built for another machine is first built for this one, with a line on stderr."""
    try:
        return open_engine(path, threads, delegate)
    except OutdatedError as error:
        print(f"edgedet: {error}\nedgedet: building {path} again as it was, which takes minutes", file=sys.stderr)
    rebuild_model(path)
    return open_engine(path, threads, delegate)


def _exported_demo(export_demo: ExportDemo) -> Path:
    print(f"no model was named and {MODELS_FOLDER}/ holds none: exporting the demo model", file=sys.stderr)
    try:
        return export_demo(MODELS_FOLDER)
    except MissingDependency as error:
        raise MissingDependency(
            f"no model was named and {MODELS_FOLDER}/ holds none: pip install 'edgedet[tflite]' runs the bundled one. "
            f"Otherwise {error}"
        ) from None
