"""The part of CUDA that edgedet needs: a stream, buffers of host and device, and copies; by pycuda or cuda-python.

Pointers and handles are ints, as TensorRT's Python bindings take them.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Callable, ContextManager, Iterator, List, Tuple

import numpy as np

from ...errors import DeviceError, MissingDependency

DEVICE = 0  # of the driver's list; a Jetson has one GPU


@dataclass(frozen=True, eq=False)
class Buffer:
    """Page-locked host memory and the device memory that goes with it.

    host:    array of the caller's shape and type.
    device:  address that the GPU uses.
    mapped:  the GPU reads and writes ``host`` itself (zero-copy), so nothing is copied.
    """

    host: np.ndarray
    device: int
    mapped: bool
    owner: Any = None


@dataclass(frozen=True)
class Gpu:
    """The driver's description of device 0; memory in bytes. On an integrated GPU it is the board's own memory."""

    name: str
    compute_capability: str
    free_bytes: int
    total_bytes: int
    integrated: bool


class Cuda(ABC):
    """One stream on device 0. A subclass for each Python package fills in the calls."""

    stream: int
    package: str

    @abstractmethod
    def current(self) -> ContextManager[None]:
        """Make the device's context this thread's current one within the block; errors inside become DeviceError."""

    @abstractmethod
    def gpu(self) -> Gpu:
        """Describe the device."""

    @abstractmethod
    def buffer(self, shape: Tuple[int, ...], dtype: Any, mapped: bool) -> Buffer:
        """Allocate memory; raises DeviceError where there is not enough."""

    @abstractmethod
    def upload(self, buffer: Buffer) -> None:
        """Queue the copy of the host's bytes to the device; nothing to do for mapped memory."""

    @abstractmethod
    def download(self, buffer: Buffer) -> None:
        """Queue the copy of the device's bytes to the host; nothing to do for mapped memory."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the stream is empty."""

    @abstractmethod
    def close(self) -> None:
        """Free buffers and stream."""


def open_cuda() -> Cuda:
    """Open device 0 by pycuda where that can be imported, else by cuda-python.

    Raises MissingDependency where neither can be imported, DeviceError where there is no GPU.
    """
    failures = []
    for kind, modules in _PACKAGES:
        for module in modules:
            try:
                package = import_module(module)
            except ModuleNotFoundError:
                continue
            except ImportError as error:  # built against another CUDA, or libcuda.so.1 is not there
                failures.append(f"{module} does not load: {str(error).splitlines()[0]}")
                continue
            return kind(package)
    reasons = f" ({'; '.join(failures)})" if failures else ""
    raise MissingDependency(
        f"TensorRT engines need pycuda or cuda-python, and neither can be imported{reasons}: `edgedet doctor` prints "
        "the command for this machine (docs/jetson.md)"
    )


class PyCuda(Cuda):
    """By pycuda.driver. Its context is the device's primary one, which TensorRT and cuda-python use as well."""

    package = "pycuda"

    def __init__(self, driver: Any) -> None:
        """Take device 0 and make a stream; ``driver`` is the module pycuda.driver."""
        self._driver = driver
        try:
            driver.init()
            self._device = driver.Device(DEVICE)
            self._context = self._device.retain_primary_context()
            with self.current():
                self._stream = driver.Stream()
                self.stream = int(self._stream.handle)
        except driver.Error as error:
            raise DeviceError(f"no GPU can be used: {_first_line(error)}.") from None
        self._buffers: List[Buffer] = []

    @contextmanager
    def current(self) -> Iterator[None]:
        """See Cuda."""
        try:
            self._context.push()
            try:
                yield
            finally:
                self._driver.Context.pop()
        except self._driver.Error as error:
            raise _explain_failure(error) from None

    def gpu(self) -> Gpu:
        """See Cuda."""
        with self.current():
            free, total = self._driver.mem_get_info()
            integrated = self._device.get_attribute(self._driver.device_attribute.INTEGRATED)
            major, minor = self._device.compute_capability()
            return Gpu(self._device.name(), f"{major}.{minor}", int(free), int(total), bool(integrated))

    def buffer(self, shape: Tuple[int, ...], dtype: Any, mapped: bool) -> Buffer:
        """See Cuda."""
        with self.current():
            if mapped:
                host = self._driver.pagelocked_empty(shape, dtype, mem_flags=self._driver.host_alloc_flags.DEVICEMAP)
                buffer = Buffer(host, int(host.base.get_device_pointer()), True)
            else:
                host = self._driver.pagelocked_empty(shape, dtype)
                owner = self._driver.mem_alloc(host.nbytes)
                buffer = Buffer(host, int(owner), False, owner)
        self._buffers.append(buffer)
        return buffer

    def upload(self, buffer: Buffer) -> None:
        """See Cuda."""
        if not buffer.mapped:
            self._driver.memcpy_htod_async(buffer.device, buffer.host, self._stream)

    def download(self, buffer: Buffer) -> None:
        """See Cuda."""
        if not buffer.mapped:
            self._driver.memcpy_dtoh_async(buffer.host, buffer.device, self._stream)

    def synchronize(self) -> None:
        """See Cuda."""
        self._stream.synchronize()

    def close(self) -> None:
        """See Cuda; pycuda frees the rest when nobody uses it any longer, in the context of its allocation."""
        with self.current():
            for buffer in self._buffers:
                if buffer.owner is not None:
                    buffer.owner.free()
            self._buffers.clear()
            del self._stream


class CudaPython(Cuda):
    """By cuda-python's runtime API: cuda.bindings.runtime, or cuda.cudart before version 12.6."""

    package = "cuda-python"

    def __init__(self, runtime: Any) -> None:
        """Take device 0 and make a stream."""
        self._runtime = runtime
        try:
            self._call("cudaSetDevice", DEVICE)
            self.stream = int(self._call("cudaStreamCreate"))
        except _CudaError as error:
            raise DeviceError(f"no GPU can be used: {error}.") from None
        self._buffers: List[Buffer] = []

    def _call(self, function: str, *values: Any) -> Any:
        """Call a function of the runtime and return its results; raises _CudaError for a status that is not success."""
        status, *rest = getattr(self._runtime, function)(*values)
        if int(status):
            _, text = self._runtime.cudaGetErrorString(status)
            raise _CudaError(f"{function}: {text.decode() if isinstance(text, bytes) else text}")
        return rest[0] if len(rest) == 1 else tuple(rest)

    @contextmanager
    def current(self) -> Iterator[None]:
        """See Cuda. A thread that has not called cudaSetDevice has no context: its calls fail with error 201."""
        try:
            self._call("cudaSetDevice", DEVICE)
            yield
        except _CudaError as error:
            raise _explain_failure(error) from None

    def gpu(self) -> Gpu:
        """See Cuda."""
        with self.current():
            free, total = self._call("cudaMemGetInfo")
            properties = self._call("cudaGetDeviceProperties", DEVICE)
            name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
            capability = f"{properties.major}.{properties.minor}"
            return Gpu(name.rstrip("\0"), capability, int(free), int(total), bool(properties.integrated))

    def buffer(self, shape: Tuple[int, ...], dtype: Any, mapped: bool) -> Buffer:
        """See Cuda."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with self.current():
            flags = self._runtime.cudaHostAllocMapped if mapped else self._runtime.cudaHostAllocDefault
            pointer = int(self._call("cudaHostAlloc", nbytes, flags))
            device = self._call("cudaHostGetDevicePointer", pointer, 0) if mapped else self._call("cudaMalloc", nbytes)
        memory = (ctypes.c_uint8 * nbytes).from_address(pointer)
        buffer = Buffer(np.frombuffer(memory, dtype).reshape(shape), int(device), mapped, pointer)
        self._buffers.append(buffer)
        return buffer

    def upload(self, buffer: Buffer) -> None:
        """See Cuda."""
        if not buffer.mapped:
            kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
            self._call("cudaMemcpyAsync", buffer.device, buffer.owner, buffer.host.nbytes, kind, self.stream)

    def download(self, buffer: Buffer) -> None:
        """See Cuda."""
        if not buffer.mapped:
            kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
            self._call("cudaMemcpyAsync", buffer.owner, buffer.device, buffer.host.nbytes, kind, self.stream)

    def synchronize(self) -> None:
        """See Cuda."""
        self._call("cudaStreamSynchronize", self.stream)

    def close(self) -> None:
        """See Cuda."""
        with self.current():
            for buffer in self._buffers:
                if not buffer.mapped:
                    self._call("cudaFree", buffer.device)
                self._call("cudaFreeHost", buffer.owner)
            self._buffers.clear()
            self._call("cudaStreamDestroy", self.stream)


# In the order of preference; cuda-python serves where pycuda cannot be built.
_PACKAGES: Tuple[Tuple[Callable[[Any], Cuda], Tuple[str, ...]], ...] = (
    (PyCuda, ("pycuda.driver",)),
    (CudaPython, ("cuda.bindings.runtime", "cuda.cudart")),
)


class _CudaError(Exception):
    """A status that is not success."""


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _explain_failure(error: Exception) -> DeviceError:
    reason = _first_line(error)
    if "out of memory" in reason.lower():
        return DeviceError(f"the GPU has no memory left ({reason}): close other programs, or use a smaller model.")
    return DeviceError(f"the GPU failed ({reason}): start again; where it fails again, restart the board.")
