"""Run ONNX files by onnxruntime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np

from ..artifact import ArtifactMeta
from ..errors import ArtifactError, ClosedError, ForeignError, require
from ..types import RawOutputs
from .base import CLOSED, Engine, check_pixels, raw_from_arrays
from .finished import gives_boxes
from .onnx_file import read_onnx
from .onnx_finished import FourOutputsEngine, open_foreign
from .table import engine_named

INPUT_NAME = "pixels"
BATCH_NAME = "batch"  # of the open dimension of a graph that takes several pictures
_TYPES = {np.float32: "tensor(float)", np.int32: "tensor(int32)"}
_LOG_FATAL = 4  # a lower level prints onnxruntime's own messages on a bad file in addition to ours


def open_model(path: Path, threads: int) -> Tuple[ArtifactMeta, Engine]:
    """Open an ONNX file that ``edgedet export`` wrote, or one with boxes that ``onnx_finished`` knows.

    See ``open_engine``.
    """
    (package,) = engine_named("ort").packages
    ort = require(package.module, f"running {path.name}", package.install)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin between layers gain 7 % (41 against 44 ms, D0, 2 cores) where nothing else runs, but take the
    # cores from capture, drawing and other programs: on a busy machine 4 FPS became 8 without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _LOG_FATAL
    try:
        meta = read_onnx(path).meta
    except ForeignError:
        return open_foreign(path, _open_session(ort, path, options))
    if meta.precision == "int8":
        # Fused INT8 kernels saturate on CPUs without VNNI (onnxruntime#12088). INT8 ONNX files are for TensorRT; a CPU
        # runs them to measure their accuracy, so it computes in float between Q and DQ.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = _open_session(ort, path, options)
    try:
        return meta, FourOutputsEngine(session, meta) if gives_boxes(meta) else OrtEngine(session, meta, ort)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None


def _open_session(ort: Any, path: Path, options: Any) -> Any:
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class per status, all plain Exceptions
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"{path} is damaged or no ONNX file that onnxruntime runs: {reason}. Export it again."
        ) from None


class OrtEngine(Engine):
    """One onnxruntime session whose outputs are written into arrays that are used again, which saves copies."""

    def __init__(self, session: Any, meta: ArtifactMeta, ort: Any) -> None:
        """Check the session's inputs and outputs against the metadata; raises ArtifactError where they differ."""
        outputs = meta.output_arrays()
        self.max_batch = meta.max_batch
        batch = BATCH_NAME if meta.max_batch > 1 else 1
        expected = {INPUT_NAME: ("tensor(uint8)", [batch, *meta.spec.input_hw, 3])}
        expected.update({name: (_TYPES[dtype], [batch, *shape]) for name, (dtype, shape) in outputs.items()})
        actual = {value.name: (value.type, value.shape) for value in (*session.get_inputs(), *session.get_outputs())}
        if actual != expected:
            raise ArtifactError(f"inputs and outputs are {actual}, its metadata says {expected}: export it again.")
        self._session = session
        self._input_shape = (1, *meta.spec.input_hw, 3)
        self._arrays = {name: np.empty((meta.max_batch, *shape), dtype) for name, (dtype, shape) in outputs.items()}
        self._binding = session.io_binding()
        self._bound = 0  # pictures that the outputs are bound for

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run one picture; the outputs are overwritten by the next call."""
        check_pixels(pixels, self._input_shape)
        return self.infer_batch(pixels)[0]

    def infer_batch(self, pixels: np.ndarray) -> List[RawOutputs]:
        """Run 1 to ``max_batch`` pictures; the outputs are overwritten by the next call."""
        if self._session is None:
            raise ClosedError(CLOSED)
        check_pixels(pixels, self._input_shape, self.max_batch)
        count = len(pixels)
        if count != self._bound:
            for name, array in self._arrays.items():
                shape = (count, *array.shape[1:])
                self._binding.bind_output(name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)
            self._bound = count
        self._binding.bind_cpu_input(INPUT_NAME, pixels)
        self._session.run_with_iobinding(self._binding)
        return [raw_from_arrays([array[at] for array in self._arrays.values()]) for at in range(count)]

    def close(self) -> None:
        """Free the session."""
        self._binding = self._session = None
