"""Run TFLite files by LiteRT (ai_edge_litert) or tflite_runtime, on the CPU or a delegate."""

from __future__ import annotations

import ctypes
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ..artifact import ArtifactMeta
from ..errors import ArtifactError, ClosedError, ForeignError, MissingDependency, UnsupportedError
from ..specs import DetectorSpec
from ..types import LevelScales, RawOutputs
from .base import CLOSED, Engine, check_pixels
from .finished import gives_boxes
from .table import engine_named
from .tflite_file import read_trailer
from .tflite_finished import finished_model, is_finished, own_engine, probe

_TOP_BIT = np.uint8(0x80)  # flipping it turns a byte into the int8 number byte - 128


def open_model(path: Path, threads: int, delegate: Optional[str] = None) -> Tuple[ArtifactMeta, Engine]:
    """Open a TFLite file that ``edgedet export`` wrote, or one that ends in TFLite_Detection_PostProcess.

    See ``open_engine``.

    delegate: shared library that runs the operators that it supports, for example libedgetpu.so.1.
    """
    library = _import_interpreter(path)
    try:
        meta, flatbuffer = read_trailer(path)
    except ForeignError:
        if not is_finished(path):
            raise
        probe(path, library.__name__)
        return finished_model(path, _make_interpreter(library, path, path.read_bytes(), threads, delegate))
    interpreter = _make_interpreter(library, path, flatbuffer, threads, delegate)
    if gives_boxes(meta):
        return meta, own_engine(path, interpreter, meta)
    try:
        return meta, TfliteEngine(interpreter, meta)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None


def read_meta(path: Path) -> ArtifactMeta:
    """Return a file's metadata; only files of other makers need an interpreter for that."""
    try:
        return read_trailer(path)[0]
    except ForeignError:
        if not is_finished(path):
            raise
    meta, engine = open_model(path, 1)
    engine.close()
    return meta


def _make_interpreter(library: Any, path: Path, flatbuffer: bytes, threads: int, delegate: Optional[str]) -> Any:
    options: Dict[str, Any] = {"num_threads": threads}
    if delegate is not None:
        options["experimental_delegates"] = [_load_delegate(library, delegate)]
    try:
        interpreter = library.Interpreter(model_content=flatbuffer, **options)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:  # an operator or version that an older runtime does not know
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{library.__name__.split('.')[0]} cannot run {path}: {reason}") from None
    return interpreter


def _import_interpreter(path: Path) -> Any:
    packages = engine_named("tflite").packages
    for root in (package.module for package in packages):
        try:
            if root == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
                import_module(root)  # where it is not installed, that is the error to report
                raise MissingDependency(
                    f"tflite_runtime needs numpy < 2, but numpy is {np.__version__}: pip install 'numpy<2', "
                    "or pip install ai-edge-litert"
                )
            return import_module(f"{root}.interpreter")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] != root:
                raise
    package = packages[0]
    raise MissingDependency(
        f"running {path.name} needs {package.distribution}, which is not installed: {package.install}"
    )


def _load_delegate(library: Any, name: str) -> Any:
    try:
        # LiteRT's Delegate leaves a traceback on stderr where its constructor fails, so what can fail is tried first.
        ctypes.PyDLL(name).tflite_plugin_destroy_delegate  # noqa: B018
        return library.load_delegate(name)
    except (OSError, AttributeError, ValueError) as error:
        reason = str(error) or "no device found"
        raise UnsupportedError(f"the delegate {name} cannot be used ({reason}): install it, or run without.") from None


class TfliteEngine(Engine):
    """One interpreter, whose outputs of all pyramid levels are copied into one array of logits and one of box codes."""

    def __init__(self, interpreter: Any, meta: ArtifactMeta) -> None:
        """Check the interpreter's inputs and outputs against the metadata; raises ArtifactError where they differ."""
        self._interpreter = interpreter
        self._input, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        actual = [(d["name"], d["dtype"], tuple(d["shape"].tolist())) for d in (*self._input, *outputs)]
        dtype = outputs[0]["dtype"] if outputs else np.float32
        expected = [("pixels", np.int8, (1, *meta.spec.input_hw, 3)), *_expected_outputs(meta, dtype)]
        if actual != expected or dtype not in (np.int8, np.float32):
            raise ArtifactError(f"inputs and outputs are {actual}, its metadata says {expected}: export it again.")
        self._input_shape = actual[0][2]
        self._input_index: int = self._input[0]["index"]
        cells = [h * w for h, w in meta.spec.level_sizes()]
        per_cell, width = meta.spec.anchors_per_cell, meta.spec.num_classes
        self._logits = np.empty((sum(cells) * per_cell, width), dtype=dtype)
        self._codes = np.empty((sum(cells) * per_cell, 4), dtype=dtype)
        ends = np.cumsum([count * per_cell for count in cells])[:-1]
        views = (*np.split(self._logits, ends), *np.split(self._codes, ends))
        self._views: List[Tuple[int, np.ndarray]] = [(d["index"], view) for d, view in zip(outputs, views)]
        levels = [
            LevelScales(count * per_cell, logits["quantization"], codes["quantization"])
            for count, logits, codes in zip(cells, outputs[: len(cells)], outputs[len(cells) :])
        ]
        self._raw = RawOutputs(self._logits, self._codes, tuple(levels) if dtype is np.int8 else ())

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run one picture; the outputs are overwritten by the next call."""
        if self._interpreter is None:
            raise ClosedError(CLOSED)
        check_pixels(pixels, self._input_shape)
        np.bitwise_xor(pixels, _TOP_BIT, out=self._interpreter.tensor(self._input_index)().view(np.uint8))
        self._interpreter.invoke()
        for index, view in self._views:
            view[...] = self._interpreter.tensor(index)().reshape(view.shape)
        return self._raw

    def close(self) -> None:
        """Free the interpreter."""
        self._interpreter = None


def _expected_outputs(meta: ArtifactMeta, dtype: Any) -> List[Tuple[str, Any, Tuple[int, ...]]]:
    """Return (name, type, shape) of each output: per level class logits, then per level box codes."""
    spec: DetectorSpec = meta.spec
    sizes = spec.level_sizes()
    channels = [spec.anchors_per_cell * width for width in (spec.num_classes, 4) for _ in sizes]
    return [(name, dtype, (1, *size, count)) for name, size, count in zip(meta.outputs, (*sizes, *sizes), channels)]
