"""A SIMULATION of TensorRT's runtime: engines are sessions of onnxruntime that work on memory addresses."""

from __future__ import annotations

import ctypes
import json
from types import SimpleNamespace

import numpy as np
import simulated_driver
from simulated_driver import STREAMS, InvalidContext, fault
from simulated_trt_base import PLAN, PROFILES, Native, Surface

DATA_TYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FLOAT", "tensor(int32)": "INT32"}


def make_runtime(surface: Surface) -> SimpleNamespace:
    """Return the classes that open and run a plan of a version, by their names."""
    version, enums, severity = surface.version, surface.enums, surface.severity

    class Runtime(Native):
        def __init__(self, log):
            self._log = log
            if fault() == "runtime":
                self._log.log(severity.ERROR, "CUDA initialization failure with error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")  # as the bindings do
            simulated_driver.check()

        def deserialize_cuda_engine(self, plan):
            head, _, model = bytes(plan).partition(b"\n")
            if fault() == "load" or head != PLAN + version.encode():
                self._log.log(severity.ERROR, "Version tag does not match. Current Version: 0, Serialized: 1")
                return None
            return ICudaEngine(model, self._log)

    class ICudaEngine(Native):
        def __del__(self):
            simulated_driver.freed("an engine")

        def __init__(self, model, log):
            import onnxruntime as ort  # here: a build, and tests without onnxruntime, need only the classes

            simulated_driver.check()
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            self._log = log
            self._profiles = json.loads(self._session.get_modelmeta().custom_metadata_map.get(PROFILES, "[]"))
            self._inputs = [value.name for value in self._session.get_inputs()]
            self._values = {v.name: v for v in (*self._session.get_inputs(), *self._session.get_outputs())}

        @property
        def num_io_tensors(self):
            return len(self._values)

        def get_tensor_name(self, index):
            return list(self._values)[index]

        def get_tensor_mode(self, name):
            return enums.TensorIOMode["INPUT" if name in self._inputs else "OUTPUT"]

        def get_tensor_shape(self, name):
            return [-1 if isinstance(side, str) else side for side in self._values[name].shape]

        def get_tensor_dtype(self, name):
            return enums.DataType[DATA_TYPES[self._values[name].type]]

        def create_execution_context(self):
            return None if fault() == "context" else IExecutionContext(self)

    class IExecutionContext(Native):
        def __init__(self, engine):
            simulated_driver.check()
            self._engine, self._addresses = engine, {}
            self._profile, self._shapes = 0, {}  # the first context of an engine has the first profile

        def set_optimization_profile_async(self, index, stream):
            simulated_driver.check()
            assert stream in STREAMS
            self._profile, self._shapes = index, {}
            return index < len(self._engine._profiles)

        def set_input_shape(self, name, shape):
            least, _, largest = self._engine._profiles[self._profile]
            self._shapes[name] = tuple(shape)
            return all(a <= b <= c for a, b, c in zip(least, shape, largest, strict=True))

        def __del__(self):
            simulated_driver.freed("an execution context")

        def set_tensor_address(self, name, address):
            self._addresses[name] = address
            return name in self._engine._values

        def execute_async_v3(self, stream):
            if fault() == "enqueue":
                self._engine._log.log(severity.ERROR, "[cudaDriverHelpers] device is lost")
                return False
            try:
                simulated_driver.check()
                STREAMS[stream].queue(self._run)
            except InvalidContext:
                self._engine._log.log(severity.ERROR, "Cuda Runtime (invalid device context)")
                return False
            except KeyError:
                self._engine._log.log(severity.ERROR, "Cuda Runtime (invalid resource handle)")
                return False
            return True

        def _run(self):
            engine = self._engine
            feeds = {
                name: _at(self._addresses[name], self._shapes.get(name, engine._values[name].shape), np.uint8)
                for name in engine._inputs
            }
            names = [name for name in engine._values if name not in engine._inputs]
            for name, value in zip(names, engine._session.run(names, feeds), strict=True):
                np.copyto(_at(self._addresses[name], value.shape, value.dtype), value)

    return SimpleNamespace(Runtime=Runtime, ICudaEngine=ICudaEngine, IExecutionContext=IExecutionContext)


def _at(address: int, shape, dtype) -> np.ndarray:
    count = int(np.prod(shape))
    memory = (ctypes.c_uint8 * (count * np.dtype(dtype).itemsize)).from_address(address)
    return np.frombuffer(memory, dtype).reshape(shape)
