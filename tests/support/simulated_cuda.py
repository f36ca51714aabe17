"""A SIMULATION of pycuda.driver, cuda.bindings.runtime and libcuda's graphs, on ordinary memory. It is no CUDA.

"Device memory" lies elsewhere than the host's, a stream does nothing before it is waited for, and a call outside a
context fails: what forgets a copy, a wait or a context fails here too. Names are those of the real packages.

SIMULATED_FAULT: gpu (there is none), allocate (no memory), lost (the stream fails when it is waited for),
graph (nothing can be recorded).
"""

from __future__ import annotations

import ctypes
import os
from types import ModuleType, SimpleNamespace

import numpy as np
from simulated_tensorrt import STREAMS

GPU_NAME, CAPABILITY, MEMORY = "Simulated Orin", (8, 7), (3 << 30, 8 << 30)
INTEGRATED = True
MAX_CALLS: list[str] = []  # names of driver calls, in order


def fault() -> str:
    return os.environ.get("SIMULATED_FAULT", "")


class Queue:
    """A stream: work is kept until somebody waits; while it is recorded, it goes into the recording instead."""

    def __init__(self):
        self.handle = 1000 + len(STREAMS)
        STREAMS[self.handle] = self
        self.waiting, self.recording = [], None

    def queue(self, work):
        (self.waiting if self.recording is None else self.recording).append(work)

    def wait(self):
        while self.waiting:
            self.waiting.pop(0)()


def copy(target: int, source: int, nbytes: int):
    return lambda: ctypes.memmove(target, source, nbytes)


def pycuda_driver() -> ModuleType:
    """Return a module as pycuda.driver."""
    driver = ModuleType("pycuda.driver")
    depth = [0]

    class Error(Exception):
        pass

    class MemoryError(Error):  # noqa: A001
        pass

    class LogicError(Error):
        pass

    class LaunchError(Error):
        pass

    def in_context():
        if depth[0] < 1:
            raise LogicError("cuXxx failed: invalid device context")

    class Context:
        def push(self):
            if fault() == "lost_push":
                raise LogicError("cuCtxPushCurrent failed: device lost")
            depth[0] += 1

        @staticmethod
        def pop():
            depth[0] -= 1

    class Device:
        def __init__(self, number):
            if fault() == "gpu":
                raise LogicError("cuDeviceGet failed: no CUDA-capable device is detected")

        def retain_primary_context(self):
            return Context()

        def name(self):
            return GPU_NAME

        def compute_capability(self):
            return CAPABILITY

        def get_attribute(self, which):
            return int(INTEGRATED)

    class Stream:
        def __init__(self):
            in_context()
            self._queue = Queue()
            self.handle = self._queue.handle

        def synchronize(self):
            in_context()
            if fault() == "lost":
                raise LaunchError("cuStreamSynchronize failed: unspecified launch failure")
            self._queue.wait()

    class HostAllocation:
        """The base of a page-locked array."""

        def __init__(self, shape, dtype):
            self.memory = (ctypes.c_uint8 * (int(np.prod(shape)) * np.dtype(dtype).itemsize))()
            self.__array_interface__ = {
                "shape": tuple(shape), "typestr": np.dtype(dtype).str, "version": 3,
                "data": (ctypes.addressof(self.memory), False),
            }  # fmt: skip

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
        MAX_CALLS.append("htod")
        stream._queue.queue(copy(int(dest), src.ctypes.data, src.nbytes))

    def memcpy_dtoh_async(dest, src, stream=None):
        in_context()
        MAX_CALLS.append("dtoh")
        stream._queue.queue(copy(dest.ctypes.data, int(src), dest.nbytes))

    def mem_get_info():
        in_context()
        return MEMORY

    for thing in (Error, MemoryError, LogicError, LaunchError, Context, Device, Stream, pagelocked_empty, mem_alloc,
                  memcpy_htod_async, memcpy_dtoh_async, mem_get_info):  # fmt: skip
        setattr(driver, thing.__name__, thing)
    driver.init = lambda: None
    driver.device_attribute = SimpleNamespace(INTEGRATED=18)
    driver.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
    return driver


def cuda_runtime() -> ModuleType:
    """Return a module as cuda.bindings.runtime; each function returns its status first."""
    runtime = ModuleType("cuda.bindings.runtime")
    held: dict[int, object] = {}

    def allocate(nbytes):
        memory = (ctypes.c_uint8 * nbytes)()
        held[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def free(address):
        del held[address]
        return (0,)

    def synchronize(stream):
        if fault() == "lost":
            return (719,)
        STREAMS[stream].wait()
        return (0,)

    def memcpy(target, source, nbytes, kind, stream):
        MAX_CALLS.append(kind)
        STREAMS[stream].queue(copy(target, source, nbytes))
        return (0,)

    runtime.cudaSetDevice = lambda number: (100,) if fault() == "gpu" else (0,)
    runtime.cudaStreamCreate = lambda: (0, Queue().handle)
    runtime.cudaStreamDestroy = lambda stream: (0,)
    runtime.cudaStreamSynchronize = synchronize
    runtime.cudaMemGetInfo = lambda: (0, *MEMORY)
    properties = SimpleNamespace(name=GPU_NAME.encode(), major=8, minor=7, integrated=int(INTEGRATED))
    runtime.cudaGetDeviceProperties = lambda number: (0, properties)
    runtime.cudaHostAlloc = lambda nbytes, flags: (2, None) if fault() == "allocate" else (0, allocate(nbytes))
    runtime.cudaHostGetDevicePointer = lambda pointer, flags: (0, pointer)
    runtime.cudaMalloc = lambda nbytes: (0, allocate(nbytes))
    runtime.cudaFree = runtime.cudaFreeHost = free
    runtime.cudaMemcpyAsync = memcpy
    runtime.cudaGetErrorString = lambda status: (
        0, {2: b"out of memory", 100: b"no CUDA-capable device is detected", 719: b"unspecified launch failure"}[status]
    )  # fmt: skip
    runtime.cudaHostAllocDefault, runtime.cudaHostAllocMapped = 0, 2
    runtime.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="htod", cudaMemcpyDeviceToHost="dtoh")
    runtime._held = held
    return runtime


class LibCuda:
    """As libcuda.so.1 by ctypes: graphs of simulated streams."""

    def __init__(self):
        self._graphs = {}

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
