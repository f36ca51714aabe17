"""A SIMULATION of pycuda.driver, cuda.bindings.runtime and libcuda's graphs, on ordinary memory. It is no CUDA.

"Device memory" lies elsewhere than the host's, a stream does nothing before it is waited for, and a call in a thread
without a context fails: what forgets a copy, a wait or a context fails here too. Names are those of the real packages.

SIMULATED_FAULT: gpu (there is none), allocate (no memory), lost (the stream fails when it is waited for),
graph (nothing can be recorded), int8 (a GPU that has none).
"""

from __future__ import annotations

import ctypes
from types import ModuleType, SimpleNamespace

import numpy as np
import simulated_driver
from simulated_driver import INVALID_CONTEXT, STREAMS, InvalidContext, Stream, fault

GPU_NAME, CAPABILITY, MEMORY = "Simulated Orin", (8, 7), (3 << 30, 8 << 30)
INTEGRATED = True
CALLS: list[str] = []  # copies that were queued, in order


def capability() -> tuple[int, int]:
    return (5, 3) if fault() == "int8" else CAPABILITY  # 5.3: the Nano's


def copy(target: int, source: int, nbytes: int):
    return lambda: ctypes.memmove(target, source, nbytes)


def pycuda_driver() -> ModuleType:
    """Return a module as pycuda.driver."""
    driver = ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    class MemoryError(Error):  # noqa: A001
        pass

    class LogicError(Error):
        pass

    class LaunchError(Error):
        pass

    def in_context():
        try:
            simulated_driver.check()
        except InvalidContext:
            raise LogicError("cuXxx failed: invalid device context") from None

    class Context:
        def push(self):
            if fault() == "lost_push":
                raise LogicError("cuCtxPushCurrent failed: device lost")
            simulated_driver.push()

        @staticmethod
        def pop():
            in_context()
            simulated_driver.pop()

    class Device:
        def __init__(self, number):
            if fault() == "gpu":
                raise LogicError("cuDeviceGet failed: no CUDA-capable device is detected")

        def retain_primary_context(self):
            return Context()

        def name(self):
            return GPU_NAME

        def compute_capability(self):
            return capability()

        def get_attribute(self, which):
            return int(INTEGRATED)

    class PyStream:
        def __init__(self):
            in_context()
            self._queue = Stream()
            self.handle = self._queue.handle

        def __del__(self):
            if hasattr(self, "_queue"):
                simulated_driver.freed("a stream")
                self._queue.destroy()

        def synchronize(self):
            in_context()
            if fault() == "lost":
                del self  # pycuda's method is C++: the error's traceback has no frame that would keep the stream
                raise LaunchError("cuStreamSynchronize failed: unspecified launch failure")
            self._queue.wait()

    class HostAllocation:
        """The base of a page-locked array."""

        def __init__(self, shape, dtype):
            self.memory = (ctypes.c_uint8 * (int(np.prod(shape)) * np.dtype(dtype).itemsize))()
            self.__array_interface__ = {
                "shape": tuple(shape),
                "typestr": np.dtype(dtype).str,
                "version": 3,
                "data": (ctypes.addressof(self.memory), False),
            }

        def get_device_pointer(self):
            return ctypes.addressof(self.memory)

    class DeviceAllocation:
        def __init__(self, nbytes):
            self.memory = (ctypes.c_uint8 * nbytes)()

        def __int__(self):
            return ctypes.addressof(self.memory)

        def free(self):
            in_context()
            self.memory = None

    def pagelocked_empty(shape, dtype, order="C", mem_flags=0):
        in_context()
        if fault() == "allocate":
            raise MemoryError("cuMemHostAlloc failed: out of memory")
        return np.asarray(HostAllocation(shape, dtype))

    def mem_alloc(nbytes):
        in_context()
        return DeviceAllocation(nbytes)

    def memcpy_htod_async(dest, src, stream=None):
        in_context()
        CALLS.append("htod")
        STREAMS[stream.handle].queue(copy(int(dest), src.ctypes.data, src.nbytes))

    def memcpy_dtoh_async(dest, src, stream=None):
        in_context()
        CALLS.append("dtoh")
        STREAMS[stream.handle].queue(copy(dest.ctypes.data, int(src), dest.nbytes))

    def mem_get_info():
        in_context()
        return MEMORY

    for thing in (
        Error,
        MemoryError,
        LogicError,
        LaunchError,
        Context,
        Device,
        pagelocked_empty,
        mem_alloc,
        memcpy_htod_async,
        memcpy_dtoh_async,
        mem_get_info,
    ):
        setattr(driver, thing.__name__, thing)
    driver.Stream = PyStream
    driver.init = lambda: None
    driver.device_attribute = SimpleNamespace(INTEGRATED=18)
    driver.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
    return driver


ERRORS = {
    2: b"out of memory",
    100: b"no CUDA-capable device is detected",
    INVALID_CONTEXT: b"invalid device context",
    400: b"invalid resource handle",
    719: b"unspecified launch failure",
}


def cuda_runtime() -> ModuleType:
    """Return a module as cuda.bindings.runtime; each function returns its status first."""
    runtime = ModuleType("cuda.bindings.runtime")
    held: dict[int, object] = {}

    def in_context(function):
        """A thread that did not call cudaSetDevice gets 201, as from cuda-python (triton#3729, cupy#72)."""

        def checked(*values):
            try:
                simulated_driver.check()
                return function(*values)
            except InvalidContext:
                return (INVALID_CONTEXT,)
            except KeyError:  # no such stream or address
                return (400,)

        return checked

    def allocate(nbytes):
        memory = (ctypes.c_uint8 * nbytes)()
        held[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def set_device(number):
        if fault() == "gpu":
            return (100,)
        simulated_driver.bind()
        return (0,)

    @in_context
    def free(address):
        del held[address]
        return (0,)

    @in_context
    def synchronize(stream):
        if fault() == "lost":
            return (719,)
        STREAMS[stream].wait()
        return (0,)

    @in_context
    def destroy(stream):
        STREAMS[stream].destroy()
        return (0,)

    @in_context
    def memcpy(target, source, nbytes, kind, stream):
        CALLS.append(kind)
        STREAMS[stream].queue(copy(target, source, nbytes))
        return (0,)

    def properties(number):
        major, minor = capability()
        name = GPU_NAME.encode()
        return (0, SimpleNamespace(name=name, major=major, minor=minor, integrated=int(INTEGRATED)))

    @in_context
    def host_alloc(nbytes, flags):
        return (2, None) if fault() == "allocate" else (0, allocate(nbytes))

    runtime.cudaSetDevice = set_device
    runtime.cudaStreamCreate = in_context(lambda: (0, Stream().handle))
    runtime.cudaStreamDestroy = destroy
    runtime.cudaStreamSynchronize = synchronize
    runtime.cudaMemGetInfo = in_context(lambda: (0, *MEMORY))
    runtime.cudaGetDeviceProperties = properties
    runtime.cudaHostAlloc = host_alloc
    runtime.cudaHostGetDevicePointer = in_context(lambda pointer, flags: (0, pointer))
    runtime.cudaMalloc = in_context(lambda nbytes: (0, allocate(nbytes)))
    runtime.cudaFree = runtime.cudaFreeHost = free
    runtime.cudaMemcpyAsync = memcpy
    runtime.cudaGetErrorString = lambda status: (0, ERRORS[int(status)])
    runtime.cudaHostAllocDefault, runtime.cudaHostAllocMapped = 0, 2
    runtime.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="htod", cudaMemcpyDeviceToHost="dtoh")
    runtime._held = held
    return runtime


class LibCuda:
    """As libcuda.so.1 by ctypes: graphs of simulated streams. Every call needs a context of its thread."""

    def __init__(self):
        self._graphs = {}

    def __getattribute__(self, name):
        function = object.__getattribute__(self, name)
        if name.startswith("_"):
            return function
        return function if simulated_driver.depth() else lambda *values: INVALID_CONTEXT

    def cuStreamBeginCapture_v2(self, stream, mode):
        if fault() == "graph":
            return 900
        STREAMS[stream.value].recording = []
        return 0

    def cuStreamEndCapture(self, stream, graph):
        queue = STREAMS[stream.value]
        if queue.recording is None:
            return 901
        graph._obj.value = 1 + len(self._graphs)
        self._graphs[graph._obj.value], queue.recording = queue.recording, None
        return 0

    def cuGraphInstantiateWithFlags(self, made, graph, flags):
        made._obj.value = graph.value
        return 0

    def cuGraphDestroy(self, graph):
        return 0

    def cuGraphExecDestroy(self, made):
        self._graphs.pop(made.value)
        return 0

    def cuGraphLaunch(self, made, stream):
        for work in self._graphs[made.value]:
            STREAMS[stream.value].queue(work)
        return 0
