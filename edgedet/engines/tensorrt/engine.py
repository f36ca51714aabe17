"""Run TensorRT engines that `edgedet build` made."""

from __future__ import annotations

import sys
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ...artifact import ArtifactMeta
from ...errors import ArtifactError, ClosedError, DeviceError
from ...types import RawOutputs
from ..base import CLOSED, Engine, check_pixels, raw_from_arrays
from ..ort import INPUT_NAME
from .board import import_tensorrt, read_board
from .build import make_logger
from .cuda import Buffer, Cuda, open_cuda
from .cuda_graph import Graph
from .engine_file import read_engine, read_own_engine, rebuild_engine

# From this compute capability (Xavier) on, a Jetson's GPU snoops the CPU's caches, so that page-locked memory stays
# cached for the CPU (CUDA for Tegra application note, "I/O coherency").
_COHERENT = (7, 2)


def open_model(path: Path, threads: int) -> Tuple[ArtifactMeta, Engine]:
    """Open an engine file; see ``open_engine``."""
    trt = import_tensorrt(f"running {path.name}")
    with ExitStack() as undo:
        cuda = open_cuda()
        undo.callback(cuda.close)
        meta, plan = read_own_engine(read_board(trt, cuda), path)
        try:
            engine = TrtEngine(trt, cuda, meta, plan)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from None
        undo.pop_all()
    return meta, engine


def rebuild(path: Path) -> None:
    """Build an engine file again for this board, from the ONNX file beside it; see ``rebuild_model``."""
    trt = import_tensorrt(f"building {path.name}")
    cuda = open_cuda()
    try:
        board = read_board(trt, cuda)
    finally:
        cuda.close()  # the build needs the memory
    rebuild_engine(trt, board, path)


def read_meta(path: Path) -> ArtifactMeta:
    """Return an engine file's metadata, which says where it belongs; needs no TensorRT."""
    return read_engine(path)[0]


def _make_runtime(trt: Any, log: Any) -> Any:
    """Return TensorRT's runtime; its bindings raise TypeError where the library returns none."""
    try:
        return trt.Runtime(log)
    except TypeError:
        raise DeviceError(
            f"TensorRT {trt.__version__} does not start ({log.reason()}): run `edgedet doctor`."
        ) from None


class _Lane:
    """Runs a fixed number of pictures at once: an execution context with its profile, buffers, and perhaps a graph."""

    pixels: Buffer
    outputs: List[Buffer]

    def __init__(self, context: Any) -> None:
        self.context = context
        self.graph: Optional[Graph] = None


class _TensorRtObjects:
    """TensorRT's objects of one engine, to be freed in order and in the device's context, also when Python ends."""

    def __init__(self, cuda: Cuda, runtime: Any) -> None:
        self.cuda, self.runtime = cuda, runtime
        self.engine: Any = None
        self.lanes: List[_Lane] = []  # the n-th is for n + 1 pictures
        self.lost = False

    def free(self) -> None:
        """Free everything. Errors of a GPU that failed before are ignored: the error that matters was raised then."""
        with suppress(*((DeviceError,) if self.lost else ())):
            self.free_plan()
            self.cuda.close()

    def free_plan(self) -> None:
        """Free TensorRT's objects, in the context in which they were made."""
        with self.cuda.current():
            while self.lanes:
                lane = self.lanes.pop()
                if lane.graph is not None:
                    lane.graph.close()
                lane.context = None
            self.engine = None
            self.runtime = None


class TrtEngine(Engine):
    """One engine on one stream, with buffers of its own.

    Where host and GPU share memory, both work on the same page-locked bytes: each byte of the picture is read once and
    each output written once, so the GPU's lack of a cache for such memory costs nothing, and no copies are made.
    Managed memory would be cached for both, but must be handed over around every launch.
    """

    def __init__(
        self,
        trt: Any,
        cuda: Cuda,
        meta: ArtifactMeta,
        plan: bytes,
        zero_copy: Optional[bool] = None,
        use_graph: bool = True,
    ) -> None:
        """Load the plan and run it once, on a black picture; close() closes ``cuda``, too.

        zero_copy: share memory between host and GPU; None decides by the GPU.
        use_graph: record the work of a frame as a CUDA graph.
        Raises ArtifactError where the plan cannot be loaded or is not what its metadata says, DeviceError where the GPU
        fails or has no memory.
        """
        self._cuda = cuda
        self._log = make_logger(trt)
        self._input_shape = (1, *meta.spec.input_hw, 3)
        self.max_batch = meta.max_batch
        if zero_copy is None:
            gpu = cuda.gpu()
            zero_copy = gpu.integrated and tuple(map(int, gpu.compute_capability.split("."))) >= _COHERENT
        self.zero_copy = zero_copy
        with cuda.current():
            loaded = self._loaded = _TensorRtObjects(cuda, _make_runtime(trt, self._log))
        try:
            self._load(trt, meta, plan, use_graph)
        except BaseException:  # else the objects would be freed later, with the traceback, in any context
            loaded.free_plan()
            raise
        self._free = weakref.finalize(self, loaded.free)

    def _load(self, trt: Any, meta: ArtifactMeta, plan: bytes, use_graph: bool) -> None:
        """Load the plan, make the buffers and run one frame, or one batch of each size."""
        cuda, loaded = self._cuda, self._loaded
        with cuda.current():
            loaded.engine = loaded.runtime.deserialize_cuda_engine(plan)
            if loaded.engine is None:
                raise ArtifactError(
                    f"TensorRT {trt.__version__} cannot load it ({self._log.reason()}): build it again."
                )
            _check_tensors(trt, loaded.engine, meta)
        for count in range(1, meta.max_batch + 1):
            lane = self._make_lane(meta, count)
            with cuda.current():
                self._enqueue(lane)
                cuda.synchronize()
                if use_graph:
                    lane.graph = self._record_graph(lane)
            use_graph = lane.graph is not None  # where CUDA refuses one, one line is enough

    @property
    def uses_graph(self) -> bool:
        """Whether frames run as a CUDA graph."""
        return self._loaded.lanes[0].graph is not None

    def _make_lane(self, meta: ArtifactMeta, count: int) -> _Lane:
        """Make a context and buffers for ``count`` pictures; of an engine for several, with the profile of that number.

        A context for each, because a context that changes its profile must be set up anew for every frame.
        """
        with self._cuda.current():
            lane = _Lane(self._loaded.engine.create_execution_context())
            self._loaded.lanes.append(lane)  # at once: only there is it freed in time where something fails
            if lane.context is None:
                raise DeviceError(f"no memory to run the engine ({self._log.reason()}): close other programs.")
            if meta.max_batch > 1:
                shape = (count, *self._input_shape[1:])
                chosen = lane.context.set_optimization_profile_async(count - 1, self._cuda.stream)
                if not chosen or not lane.context.set_input_shape(INPUT_NAME, shape):
                    raise ArtifactError(f"it does not take {count} pictures ({self._log.reason()}): build it again.")
        make, outputs = self._cuda.buffer, meta.output_arrays()
        lane.pixels = make((count, *self._input_shape[1:]), np.uint8, self.zero_copy)
        lane.pixels.host[...] = 0
        lane.outputs = [make((count, *shape), dtype, self.zero_copy) for dtype, shape in outputs.values()]
        for name, buffer in zip((INPUT_NAME, *meta.outputs), (lane.pixels, *lane.outputs)):
            if not lane.context.set_tensor_address(name, buffer.device):
                raise ArtifactError(f"TensorRT takes no address for {name} ({self._log.reason()}): build it again.")
        return lane

    def _enqueue(self, lane: _Lane) -> None:
        """Queue one run: copies to and from the device, where there are any, and the network."""
        self._cuda.upload(lane.pixels)
        if not lane.context.execute_async_v3(self._cuda.stream):
            raise DeviceError(f"TensorRT could not run a frame ({self._log.reason()}): start again.")
        for buffer in lane.outputs:
            self._cuda.download(buffer)

    def _record_graph(self, lane: _Lane) -> Optional[Graph]:
        """Record a run's work as a graph; return None, with a line on stderr, where CUDA cannot record it."""
        try:
            with self._cuda.current():
                return Graph(self._cuda.stream, lambda: self._enqueue(lane))
        except (DeviceError, OSError) as error:  # some kernels cannot be recorded; libcuda.so.1 may have another name
            print(f"edgedet: no CUDA graph, frames are launched layer by layer: {error}", file=sys.stderr)
            return None

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run one picture; the outputs are overwritten by the next call."""
        if not self._free.alive:
            raise ClosedError(CLOSED)
        check_pixels(pixels, self._input_shape)
        return self.infer_batch(pixels)[0]

    def infer_batch(self, pixels: np.ndarray) -> List[RawOutputs]:
        """Run 1 to ``max_batch`` pictures; the outputs are overwritten by the next call with as many."""
        if not self._free.alive:
            raise ClosedError(CLOSED)
        check_pixels(pixels, self._input_shape, self.max_batch)
        lane = self._loaded.lanes[len(pixels) - 1]
        np.copyto(lane.pixels.host, pixels)
        try:
            with self._cuda.current():
                if lane.graph is not None:
                    lane.graph.launch()
                else:
                    self._enqueue(lane)
                self._cuda.synchronize()
        except DeviceError:
            self._loaded.lost = True
            raise
        return [raw_from_arrays([buffer.host[at] for buffer in lane.outputs]) for at in range(len(pixels))]

    def close(self) -> None:
        """Free the engine, its buffers and the stream; a second call does nothing."""
        self._free()


def _check_tensors(trt: Any, engine: Any, meta: ArtifactMeta) -> None:
    """Compare inputs and outputs with the metadata; raises ArtifactError where they differ."""
    types = {np.uint8: trt.DataType.UINT8, np.float32: trt.DataType.FLOAT, np.int32: trt.DataType.INT32}
    outputs = meta.output_arrays()
    batch = 1 if meta.max_batch == 1 else -1  # open
    expected: Dict[str, Tuple[str, Tuple[int, ...], bool]] = {
        INPUT_NAME: ("INPUT", (batch, *meta.spec.input_hw, 3), True)
    }
    expected.update({name: ("OUTPUT", (batch, *shape), True) for name, (_, shape) in outputs.items()})
    actual = {}
    for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
        mode = "INPUT" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "OUTPUT"
        typed = engine.get_tensor_dtype(name) == types[outputs[name][0] if name in outputs else np.uint8]
        actual[name] = (mode, tuple(int(side) for side in engine.get_tensor_shape(name)), typed)
    if actual != expected:
        raise ArtifactError(f"inputs and outputs are {actual}, its metadata says {expected}: build it again.")
