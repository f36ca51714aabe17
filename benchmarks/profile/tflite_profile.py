"""Where the time of a .tflite file goes, by LiteRT's own profiler.

XNNPACK tells this profiler each of its operators. It is reached through the C interface of libLiteRt
(litert/c/litert_profiler.h), because the Python package hides it.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

from edgedet.errors import UnsupportedError, require

_CPU = 1  # kLiteRtHwAcceleratorCpu
# identifier -> TOML, as litert/c/options/ writes them
_OPTIONS = {"runtime_options_string": "enable_profiling = true\n", "xnnpack": "num_threads = {threads}\n"}
_DELEGATE = "Delegate/"
_WARMUP = 3
_LIBRARY = "libLiteRt.so"
_C = ctypes.CDLL(None)
_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_TENSOR_TYPE_BYTES = 512  # LiteRtRankedTensorType has about 72


def open_interpreter(flatbuffer: bytes, threads: int = 1) -> Any:
    """Return LiteRT's interpreter, ready to run."""
    interpreter = require("ai_edge_litert.interpreter", "reading a .tflite file").Interpreter(
        model_content=flatbuffer, num_threads=threads
    )
    interpreter.allocate_tensors()
    return interpreter


class Profile:
    """One model with LiteRT's profiler on."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Compile the model; raises UnsupportedError where this LiteRT's C interface is another."""
        self._library = ctypes.CDLL(str(Path(require("ai_edge_litert", "profiling").__file__ or "").parent / _LIBRARY))
        self._held: list[Any] = []  # what the library keeps pointers to
        self._before: dict[str, float] = {}
        self._runs = 0
        environment = self._create("LiteRtCreateEnvironment", ctypes.c_int(0), None)
        model = self._create("LiteRtCreateModelFromFile", environment, str(path).encode())
        options = self._create("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, ctypes.c_int(_CPU))
        for identifier, text in _OPTIONS.items():
            payload = ctypes.create_string_buffer(text.format(threads=threads).encode())
            keep = _Deleter(lambda pointer: None)
            self._held += [payload, keep]
            option = self._create("LiteRtCreateOpaqueOptions", identifier.encode(), payload, keep)
            self._call("LiteRtAddOpaqueOptions", options, option)
        self._model = self._create("LiteRtCreateCompiledModel", environment, model, options)
        self._profiler = self._create("LiteRtCompiledModelGetProfiler", self._model)
        signature = self._create("LiteRtGetModelSignature", model, ctypes.c_size_t(0))
        self._buffers = [self._buffers_of(environment, signature, side) for side in ("Input", "Output")]
        for _ in range(_WARMUP):
            self._run()

    def run(self) -> dict[str, float]:
        """Run the model once, on whatever is in its input; return milliseconds by node type.

        "Delegate/..." are XNNPACK's operators; the others' times are means over the runs so far, because LiteRT rounds
        them to 1 us. "Invalid Unary Op" is its name for a look-up table, such as a swish.
        """
        self._call("LiteRtResetProfiler", self._profiler)  # without this the next run is not added
        self._call("LiteRtStartProfiler", self._profiler)
        self._run()
        self._call("LiteRtStopProfiler", self._profiler)
        summary = self._create("LiteRtGetProfileSummary", self._profiler, self._model)
        self._text = ctypes.string_at(summary)
        _C.free(summary)
        self._runs += 1
        total, before = parse_times(self._text), self._before  # over all runs so far
        self._before = total
        return {
            name: ms - before.get(name, 0.0) if name.startswith(_DELEGATE) else ms / self._runs
            for name, ms in total.items()
        }

    def rows(self) -> dict[tuple[str, int], tuple[float, int]]:
        """Return (node type, place) -> (mean milliseconds of a run, operators), of the runs so far.

        The place of XNNPACK's operators is that within a partition, and those of the same type and place in several
        partitions are one row; the place of others is that in the file.
        """
        return {key: (ms / self._runs, calls // self._runs) for key, (ms, calls) in parse_rows(self._text).items()}

    def _buffers_of(self, environment: Any, signature: Any, side: str) -> Any:
        count = ctypes.c_size_t()
        self._call(f"LiteRtGetNumSignature{side}s", signature, ctypes.byref(count))
        buffers = (ctypes.c_void_p * count.value)()
        for index in range(count.value):
            number = ctypes.c_size_t(index)
            tensor = self._create(f"LiteRtGetSignature{side}TensorByIndex", signature, number)
            kind = ctypes.create_string_buffer(_TENSOR_TYPE_BYTES)
            self._call("LiteRtGetRankedTensorType", tensor, kind)
            requirements = self._create(
                f"LiteRtGetCompiledModel{side}BufferRequirements", self._model, ctypes.c_size_t(0), number
            )
            buffers[index] = self._create(
                "LiteRtCreateManagedTensorBufferFromRequirements", environment, kind, requirements
            )
        return buffers

    def _run(self) -> None:
        given = [argument for side in self._buffers for argument in (ctypes.c_size_t(len(side)), side)]
        self._call("LiteRtRunCompiledModel", self._model, ctypes.c_size_t(0), *given)

    def _create(self, function: str, *arguments: Any) -> ctypes.c_void_p:
        """Call a function whose last argument receives a handle."""
        handle = ctypes.c_void_p()
        self._call(function, *arguments, ctypes.byref(handle))
        return handle

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function, lambda *_: "missing")(*arguments)
        if status:
            raise UnsupportedError(
                f"LiteRT's {function} fails ({status}): install ai-edge-litert 2.3, whose profiler edgedet knows."
            )


def parse_times(summary: bytes) -> dict[str, float]:
    """Return node type -> milliseconds, from the profiler's text about the runs so far.

    Delegates' operators have their totals in the last table, in microseconds; of the interpreter's own operators the
    table by node type gives the mean of a call and the number of calls.
    """
    by_type, _, of_delegates = summary.decode().partition("Summary by node type")[2].partition("Delegate Statistics")
    own = re.findall(r"^ *(\S.*?) +\d+ +([\d.]+) +[\d.]+% +[\d.]+% +[\d.]+ +(\d+)$", by_type, re.MULTILINE)
    times = {name: float(mean) * int(calls) for name, mean, calls in own if not name.startswith(_DELEGATE)}
    totals = re.findall(r"^(Delegate/.*?) +\d+ +[\d.]+ +\d+ +\d+ +(\d+)$", of_delegates, re.MULTILINE)
    times.update({name: float(total) / 1e3 for name, total in totals})
    if not times:
        raise UnsupportedError(
            "LiteRT's profile has a form that edgedet does not know: install ai-edge-litert 2.3, whose form it knows."
        )
    return times


def parse_rows(summary: bytes) -> dict[tuple[str, int], tuple[float, int]]:
    """Return (node type, place) -> (milliseconds, calls), from the profiler's text about the runs so far."""
    table = summary.decode().partition("Top by Computation Time")[0]
    lines = re.findall(
        r"^ *(\S.*?) +[\d.]+ +[\d.]+ +([\d.]+) +[\d.]+% +[\d.]+% +[\d.]+ +(\d+) +\S+:(\d+)$", table, re.M
    )
    if not lines:
        raise UnsupportedError(
            "LiteRT's profile has a form that edgedet does not know: install ai-edge-litert 2.3, whose form it knows."
        )
    return {(kind, int(place)): (float(mean) * int(calls), int(calls)) for kind, mean, calls, place in lines}
