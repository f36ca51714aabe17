"""A SIMULATION of NVIDIA's `tensorrt` module, for machines without a GPU. It is no TensorRT and proves no speed.

It exposes exactly the members that the real bindings of one version have (golden/trt_api.json), so that a call which a
version lacks fails here too. Its "plans" are ONNX files, and its engines run them by onnxruntime on memory addresses,
when the simulated CUDA stream gets there. FP16 flags change nothing; typed networks compute what their file says.

SIMULATED_TENSORRT names the version, SIMULATED_FAULT one fault: parse, build, memory, slow, load, runtime, context,
enqueue. Everything that uses the device asks for a context of its thread (simulated_driver.py).
"""

from __future__ import annotations

import ctypes
import json
import time
from enum import IntEnum
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import simulated_driver
import trt_api
from onnx import TensorProto, helper, numpy_helper
from simulated_driver import STREAMS, InvalidContext, fault

TYPES = {"Conv": "CONVOLUTION", "QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE", "Cast": "CAST"}
TYPES.update(dict.fromkeys(("Add", "Sub", "Mul", "Div"), "ELEMENTWISE"))
PLAN = b"simulated plan of TensorRT "
DATA_TYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FLOAT", "tensor(int32)": "INT32"}
PROFILES = "profiles"  # metadata entry of a simulated plan
RULED_BY_FLAGS = ("INT8", "FP16")


class Native:
    """As a class of the bindings: nothing can be set that is not there."""

    _members: frozenset[str] = frozenset()

    def __setattr__(self, name, value):
        if not name.startswith("_") and name not in self._members:
            raise AttributeError(f"{type(self).__name__} has no member {name} in this version (simulation)")
        object.__setattr__(self, name, value)


class HostMemory(bytes):
    """IHostMemory: a buffer."""


def module_for(version: str) -> ModuleType:
    """Return a module of the version's surface."""
    surface = trt_api.members(version)
    module = ModuleType("tensorrt")
    module.__version__ = version
    enums = SimpleNamespace(
        **{
            name: IntEnum(name, [m for m in sorted(surface[name]) if m not in ("name", "value")], start=0)
            for name in (
                "BuilderFlag",
                "DataType",
                "LayerType",
                "MemoryPoolType",
                "NetworkDefinitionCreationFlag",
                "TacticSource",
                "TensorIOMode",
            )
        }
    )
    severity = IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)

    class ILogger(Native):
        Severity = severity
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = severity
        __setattr__ = object.__setattr__  # Python classes that inherit may hold what they like

    class IProgressMonitor(Native):
        __setattr__ = object.__setattr__

    class ITensor(Native):
        def __init__(self, network, value):
            self._network, self._value = network, value

        @property
        def name(self):
            return self._value

        @property
        def dtype(self):
            """Good enough for what lies between the mean's subtraction and the outputs."""
            if self._value == "top_anchors":
                return enums.DataType.INT32
            return enums.DataType["HALF" if self._network._model.opset_import[0].version >= 19 else "FLOAT"]

        @property
        def shape(self):
            (value,) = (v for v in self._network._model.graph.input if v.name == self._value)
            return tuple(-1 if d.dim_param else d.dim_value for d in value.type.tensor_type.shape.dim)

        @name.setter
        def name(self, text):
            self._network._rename(self._value, text)
            self._value = text

    class ILayer(Native):
        def __init__(self, network, node, inputs):
            self._network, self._node, self._at = network, node, inputs

        @property
        def type(self):
            kind = TYPES.get(self._node.op_type, "SHUFFLE")
            return enums.LayerType[kind if kind in enums.LayerType.__members__ else "IDENTITY"]  # a cast before 8.6

        @property
        def name(self):
            return self._node.name

        @name.setter
        def name(self, text):
            self._node.name = text

        @property
        def num_inputs(self):
            return len(self._at)

        @property
        def num_outputs(self):
            return len(self._node.output)

        def get_input(self, index):
            return ITensor(self._network, self._node.input[self._at[index]])

        def get_output(self, index):
            return ITensor(self._network, self._node.output[index])

        def set_input(self, index, tensor):
            self._node.input[self._at[index]] = tensor._value

    class IConstantLayer(ILayer):
        """Its node is a stand-in that is not written."""

        type = enums.LayerType.CONSTANT

        @property
        def weights(self):
            return self._network._constants[self._node.output[0]].reshape(-1)

        @weights.setter
        def weights(self, values):
            name = self._node.output[0]
            self._network._constants[name] = values.reshape(self._network._constants[name].shape)

        @property
        def shape(self):
            return self._network._constants[self._node.output[0]].shape

    class Weights(Native):
        """Only the empty ones."""

    class IQuantizeLayer(ILayer):
        @property
        def axis(self):
            return self._node.attribute[0].i

        @axis.setter
        def axis(self, axis):
            self._node.attribute.append(helper.make_attribute("axis", axis))
            self._network._give_zero_points(self._node)

    class IDequantizeLayer(IQuantizeLayer):
        pass

    class IConvolutionLayer(ILayer):
        def _attribute(self, name, default):
            return next((helper.get_attribute_value(a) for a in self._node.attribute if a.name == name), default)

        def _set_attribute(self, name, value):
            kept = [attribute for attribute in self._node.attribute if attribute.name != name]
            del self._node.attribute[:]
            self._node.attribute.extend([*kept, helper.make_attribute(name, value)])

        def _set_pads(self, which, value):
            pads = list(self._attribute("pads", [0] * 4))
            pads[which] = value
            self._set_attribute("pads", pads)

        stride_nd, dilation_nd, num_groups = (
            property(
                lambda self, name=name, default=default: self._attribute(name, default),
                lambda self, value, name=name: self._set_attribute(name, value),
            )
            for name, default in (("strides", [1, 1]), ("dilations", [1, 1]), ("group", 1))
        )
        pre_padding, post_padding = (
            property(
                lambda self, which=which: self._attribute("pads", [0] * 4)[which],
                lambda self, value, which=which: self._set_pads(which, value),
            )
            for which in (slice(0, 2), slice(2, 4))  # of ONNX's pads
        )

        def _weight_shape(self):
            """Also of weights behind Q/DQ: the layer was made with their shape."""
            made = {name: layer._node for layer in self._network._layers for name in layer._node.output}
            name = self._node.input[1]
            while name not in self._network._constants:
                name = made[name].input[0]
            return self._network._constants[name].shape

        @property
        def kernel_size_nd(self):
            return self._weight_shape()[2:]

        @property
        def num_output_maps(self):
            return self._weight_shape()[0]

        @property
        def kernel(self):
            return self._network._constants[self._node.input[1]].reshape(-1)

        @kernel.setter
        def kernel(self, values):
            name = self._node.input[1]
            self._network._constants[name] = values.reshape(self._network._constants[name].shape)

        @property
        def bias(self):
            return (
                self._network._constants[self._node.input[2]] if len(self._node.input) > 2 else np.zeros(0, np.float32)
            )

        @bias.setter
        def bias(self, values):
            if values.size:
                self._network._constants[self._node.input[2]] = values

    class WideConstant(ILayer):
        """As ``get_layer`` gives it: an ILayer until it is narrowed by ``__class__``."""

        type = enums.LayerType.CONSTANT

    class INetworkDefinition(Native):
        def __init__(self, typed):
            self._typed, self._layers, self._constants, self._model, self._outputs = typed, [], {}, None, []

        def _load(self, model):
            self._model = model
            self._outputs = [value.name for value in model.graph.output]
            self._constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
            kernels = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:]}
            for name in self._constants.keys() - kernels:  # a convolution holds its own
                self._layers.append(WideConstant(self, onnx.NodeProto(name=name, output=[name]), []))
            for node in model.graph.node:
                inputs = [i for i, name in enumerate(node.input) if name not in kernels & self._constants.keys()]
                self._layers.append(ILayer(self, node, inputs))

        @property
        def num_layers(self):
            return len(self._layers)

        def get_layer(self, index):
            return self._layers[index]

        def add_constant(self, shape, weights):
            if version.startswith("8.") and weights.dtype == np.int8:
                raise TypeError("constant: invalid weights type of Int8")  # add_constant gives None, its user fails
            name = f"added.{len(self._layers)}"
            self._constants[name] = weights.reshape(shape)
            self._layers.append(IConstantLayer(self, onnx.NodeProto(name=name, output=[name]), []))
            return self._layers[-1]

        def add_cast(self, tensor, kind):
            to = {"HALF": TensorProto.FLOAT16, "FLOAT": TensorProto.FLOAT}[kind.name]
            name = f"added.{len(self._layers)}"
            node = self._model.graph.node.add()
            node.CopyFrom(helper.make_node("Cast", [tensor._value], [name], name=name, to=to))
            self._layers.append(ILayer(self, node, [0]))
            return self._layers[-1]

        def _add(self, kind, op_type, inputs, at):
            name = f"added.{len(self._layers)}"
            node = self._model.graph.node.add()
            node.CopyFrom(helper.make_node(op_type, inputs, [name], name=name))
            self._layers.append(kind(self, node, at))
            return self._layers[-1]

        def _quantiser(self, kind, op_type, tensor, scale, output_type):
            typed = "INT8" not in enums.BuilderFlag.__members__
            assert len(output_type) <= (0 if version.startswith("8.") else 1), "two tensors in 8.x"
            assert len(output_type) == 1 or not typed, "and an output type where typing is strong"
            self._constants["added.zero"] = np.zeros((), np.int8)  # without it, ONNX quantises to uint8
            zero = ["added.zero"] if op_type == "QuantizeLinear" else []
            return self._add(kind, op_type, [tensor._value, scale._value, *zero], [0, 1])

        def _give_zero_points(self, node):
            """ONNX wants as many zero points as scales, for integers to be signed."""
            if node.op_type == "QuantizeLinear":
                count = self._constants[node.input[1]].shape
                self._constants[f"{node.name}.zeros"] = np.zeros(count, np.int8)
                node.input[2] = f"{node.name}.zeros"

        def add_quantize(self, tensor, scale, *output_type):
            return self._quantiser(IQuantizeLayer, "QuantizeLinear", tensor, scale, output_type)

        def add_dequantize(self, tensor, scale, *output_type):
            return self._quantiser(IDequantizeLayer, "DequantizeLinear", tensor, scale, output_type)

        def add_convolution_nd(self, tensor, maps, kernel_shape, kernel, bias):
            assert isinstance(kernel, Weights)
            inputs = [tensor._value, ""]
            if not isinstance(bias, Weights):
                self._constants[f"bias.{len(self._layers)}"] = np.asarray(bias)
                inputs.append(f"bias.{len(self._layers)}")
            return self._add(IConvolutionLayer, "Conv", inputs, [0, 1])

        @property
        def num_outputs(self):
            return len(self._outputs)

        def get_input(self, index):
            return ITensor(self, self._model.graph.input[index].name)

        def get_output(self, index):
            return ITensor(self, self._outputs[index])

        def unmark_output(self, tensor):
            self._outputs.remove(tensor._value)

        def mark_output(self, tensor):
            self._outputs.append(tensor._value)

        def _rename(self, old, new):
            for layer in self._layers:
                for names in (layer._node.input, layer._node.output):
                    names[:] = [new if name == old else name for name in names]

        def _written(self):
            """The network as it was edited, as an ONNX file: nodes sorted, unused ones left out."""
            made = {name: layer._node for layer in self._layers for name in layer._node.output}
            order, done = [], set()

            def visit(name):
                node = made.get(name)
                if node is None or node.name in done:
                    return
                done.add(node.name)
                for read in node.input:
                    visit(read)
                order.append(node)

            for name in self._outputs:
                visit(name)
            result = onnx.ModelProto()
            result.CopyFrom(self._model)
            del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
            result.graph.node.extend(node for node in order if node.op_type)
            used = {name for node in order for name in (*node.input, *node.output)}
            result.graph.initializer.extend(
                numpy_helper.from_array(np.asarray(array), name)
                for name, array in self._constants.items()
                if name in used
            )
            return result

    class IBuilderConfig(Native):
        def __init__(self):
            self._flags, self._cache, self._limits, self._sources = {"TF32"}, None, {}, None
            self._monitor, self._effort, self._profiles = None, 3, []

        def add_optimization_profile(self, profile):
            self._profiles.append(profile)
            return len(self._profiles) - 1

        @property
        def progress_monitor(self):
            return self._monitor

        @progress_monitor.setter
        def progress_monitor(self, monitor):
            self._monitor = monitor

        @property
        def builder_optimization_level(self):
            return self._effort

        @builder_optimization_level.setter
        def builder_optimization_level(self, level):
            self._effort = level

        def set_flag(self, flag):
            self._flags.add(flag.name)

        def clear_flag(self, flag):
            self._flags.discard(flag.name)

        def set_memory_pool_limit(self, pool, size):
            self._limits[pool.name] = size

        def set_tactic_sources(self, sources):
            self._sources = sources
            return True

        def create_timing_cache(self, data):
            return ITimingCache(data)

        def set_timing_cache(self, cache, ignore_mismatch):
            if cache._data and not cache._data.startswith(version.encode()):
                return False
            self._cache = cache
            return True

        def get_timing_cache(self):
            return self._cache

    class ITimingCache(Native):
        def __init__(self, data):
            self._data = bytes(data)

        def serialize(self):
            return HostMemory(self._data or version.encode() + b" timings")

    class IOptimizationProfile(Native):
        """Name of an input -> least, best and largest shape."""

        def __init__(self):
            self._shapes = {}

        def set_shape(self, name, least, best, largest):
            if not all(a <= b <= c for a, b, c in zip(least, best, largest, strict=True)):
                raise ValueError("Shape provided for min <= opt <= max is inconsistent")
            self._shapes[name] = [tuple(least), tuple(best), tuple(largest)]

    class Builder(Native):
        def __init__(self, log):
            self._log = log

        def create_network(self, flags):
            kinds = enums.NetworkDefinitionCreationFlag
            typed = "STRONGLY_TYPED" in kinds.__members__ and bool(flags & 1 << int(kinds["STRONGLY_TYPED"]))
            if "EXPLICIT_BATCH" in kinds.__members__ and not typed and version.startswith("8."):
                assert flags & 1 << int(kinds["EXPLICIT_BATCH"]), "8.x parses ONNX into explicit batches only"
            return INetworkDefinition(typed)

        def create_optimization_profile(self):
            return IOptimizationProfile()

        def create_builder_config(self):
            return IBuilderConfig()

        def build_serialized_network(self, network, config):
            flags = config._flags.intersection(RULED_BY_FLAGS)
            quantised = [layer for layer in network._layers if layer.type == enums.LayerType.QUANTIZE]
            if network._typed and flags:
                self._log.log(severity.ERROR, f"strongly typed networks take no {' '.join(sorted(flags))} flag")
                return None
            if quantised and not network._typed and "INT8" not in flags:  # also where nothing reads them (#4021)
                reason = "Int8 precision has been set for a layer or layer output, but int8 is not configured"
                self._log.log(severity.ERROR, f"{reason} in the builder")
                return None
            if not quantised and "INT8" in flags:
                self._log.log(severity.ERROR, "Calibration failure occurred with no scaling factors detected")
                return None
            opened = [v.name for v in network._model.graph.input if -1 in ITensor(network, v.name).shape]
            profiles = config._profiles or [IOptimizationProfile()]
            if any(name not in profile._shapes for name in opened for profile in profiles):
                self._log.log(severity.ERROR, "Network has dynamic or shape inputs, but no optimization profile")
                return None
            if fault() == "build":
                self._log.log(severity.ERROR, "Could not find any implementation for node fpn.cell.0")
                return None
            if fault() == "memory":
                self._log.log(severity.ERROR, "[defaultAllocator.cpp] Cuda Runtime (out of memory)")
                self._log.log(severity.ERROR, "[builder.cpp] error code 2")
                return None
            if fault() == "slow":
                time.sleep(3600)
            monitor = config._monitor
            if monitor is not None:
                monitor.phase_start("Building Engine", None, 2)
                monitor.phase_start("Tactics", "Building Engine", 1)
                for step in range(2):
                    assert monitor.step_complete("Building Engine", step)
                monitor.phase_finish("Building Engine")
            model = network._written()
            shapes = [profile._shapes[name] for name in opened for profile in config._profiles]
            helper.set_model_props(model, {PROFILES: json.dumps(shapes)})
            return HostMemory(PLAN + version.encode() + b"\n" + model.SerializeToString())

    class ParserError(Native):
        def __init__(self, text):
            self._text = text

        def desc(self):
            return self._text

    class OnnxParser(Native):
        def __init__(self, network, log):
            self._network, self._errors = network, []

        def parse(self, data):
            model = onnx.load_from_string(data)
            opset = model.opset_import[0].version
            if fault() == "parse" or (version.startswith("8.") and opset > 17):
                self._errors.append(ParserError(f"No importer registered for op in opset {opset}"))
                return False
            integers = {item.name for item in model.graph.initializer if item.data_type == TensorProto.INT8}
            dequantised = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
            if version.startswith("8.") and integers & dequantised:  # zero points are INT8, and become float
                self._errors.append(ParserError(f"{min(integers & dequantised)}: invalid weights type of Int8"))
                return False
            self._network._load(model)
            return True

        @property
        def num_errors(self):
            return len(self._errors)

        def get_error(self, index):
            return self._errors[index]

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

    made = {
        kind.__name__: kind
        for kind in (
            ILogger,
            IProgressMonitor,
            ITensor,
            ILayer,
            IConstantLayer,
            IConvolutionLayer,
            IQuantizeLayer,
            IDequantizeLayer,
            Weights,
            INetworkDefinition,
            IBuilderConfig,
            IOptimizationProfile,
            ITimingCache,
            Builder,
            ParserError,
            OnnxParser,
            Runtime,
            ICudaEngine,
            IExecutionContext,
        )
    }
    for name, kind in made.items():
        kind._members = surface.get(name, frozenset())
        for member in [key for key in vars(kind) if not key.startswith("_") and key not in kind._members]:
            delattr(kind, member)
        if name in surface:
            setattr(module, name, kind)
    WideConstant._members = ILayer._members
    for name, kind in vars(enums).items():
        setattr(module, name, kind)
    return module


def _at(address: int, shape, dtype) -> np.ndarray:
    count = int(np.prod(shape))
    memory = (ctypes.c_uint8 * (count * np.dtype(dtype).itemsize)).from_address(address)
    return np.frombuffer(memory, dtype).reshape(shape)
