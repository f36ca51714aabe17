"""A CUDA graph: the work of a stream, recorded once and then launched as a whole.

It calls the driver's C functions, because pycuda has no graphs and cuda-python need not be installed.
"""

from __future__ import annotations

import ctypes
from typing import Any, Callable

from ...errors import DeviceError

_CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate meanwhile


def load_driver() -> Any:
    """Load the driver's library; raises OSError where there is none."""
    return ctypes.CDLL("libcuda.so.1")


class Graph:
    """A recorded graph: hundreds of small kernels cost the CPU one call for each frame."""

    def __init__(self, stream: int, work: Callable[[], None]) -> None:
        """Record ``work``, which must queue on ``stream`` only and must have run once; raises DeviceError."""
        self._driver = load_driver()
        self._stream = ctypes.c_void_p(stream)
        self._exec = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, _CAPTURE_THREAD_LOCAL)
        try:
            work()
        finally:
            self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._exec), graph, ctypes.c_ulonglong(0))
        self._call("cuGraphDestroy", graph)

    def launch(self) -> None:
        """Queue the recorded work."""
        self._call("cuGraphLaunch", self._exec, self._stream)

    def close(self) -> None:
        """Free the recording."""
        self._call("cuGraphExecDestroy", self._exec)

    def _call(self, function: str, *values: Any) -> None:
        status = getattr(self._driver, function)(*values)
        if status:
            raise DeviceError(f"the GPU failed ({function} gave CUDA error {status}).")
