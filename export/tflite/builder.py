"""Build a .tflite flatbuffer of tensors, constants and operators, by TFLite's schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
ALIGNMENT = 16  # of constants: schema.fbs says force_align 16, which the generated Python classes leave out
FREE_BYTES = 1 << 20  # beside the constants; the flatbuffer grows where that is too little

# operator -> (its options table, version for float32, version for int8); tensorflow/lite/tools/versioning/op_version.cc
OPERATORS = {
    "ADD": ("AddOptions", 1, 2),
    "ARG_MAX": ("ArgMaxOptions", 1, 2),
    "CONCATENATION": ("ConcatenationOptions", 1, 2),
    "CONV_2D": ("Conv2DOptions", 1, 3),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", 1, 3),
    "DEQUANTIZE": ("DequantizeOptions", 2, 2),  # int8 to float32
    "GATHER": ("GatherOptions", 1, 2),
    "LOGISTIC": (None, 1, 2),
    "MAX_POOL_2D": ("Pool2DOptions", 1, 2),
    "MEAN": ("ReducerOptions", 1, 2),
    "MUL": ("MulOptions", 1, 2),
    "ONE_HOT": ("OneHotOptions", 1, 1),
    "PAD": ("PadOptions", 1, 2),
    "PADV2": ("PadV2Options", 1, 2),
    "QUANTIZE": ("QuantizeOptions", 1, 1),  # float32 to int8
    "REDUCE_MAX": ("ReducerOptions", 1, 2),
    "RELU6": (None, 1, 2),
    "RESHAPE": ("ReshapeOptions", 1, 1),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", 1, 2),
    "SUB": ("SubOptions", 1, 2),
    "TOPK_V2": ("TopKV2Options", 1, 2),
}

_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.uint8): schema.TensorType.UINT8,
}


@dataclass(frozen=True, eq=False)
class Scales:
    """How integers stand for real numbers: real = scale x (integer - zero point), by tensor or by index of ``axis``."""

    scales: np.ndarray  # (n,) float32
    zero_point: int = 0
    axis: int = 0


class _AlignedBuffer(schema.BufferT):
    """A constant whose bytes start at a multiple of ALIGNMENT."""

    def Pack(self, builder: Any) -> int:  # noqa: N802 (the schema's name)
        data = b"" if self.data is None else bytes(self.data)
        if not data:
            schema.BufferStart(builder)
            return schema.BufferEnd(builder)
        builder.StartVector(1, len(data), ALIGNMENT)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


@dataclass
class TfliteBuilder:
    """Collects tensors and operators of one graph. Constants of equal bytes are stored once."""

    tensors: list[Any] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    buffers: list[bytes] = field(default_factory=lambda: [b""])  # buffer 0 is empty: of tensors without data
    _buffer_ids: dict[bytes, int] = field(default_factory=dict)
    _codes: dict[tuple[str, int], int] = field(default_factory=dict)
    _constants: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _metadata: dict[str, int] = field(default_factory=dict)  # name -> buffer

    def tensor(
        self, name: str, shape: Sequence[int], dtype: Any, scales: Scales | None = None, data: bytes = b""
    ) -> int:
        """Add a tensor and return its number."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, [int(size) for size in shape], _TYPES[np.dtype(dtype)]
        tensor.hasRank = True
        tensor.buffer = 0
        if data:
            tensor.buffer = self._buffer_ids.setdefault(data, len(self.buffers))
            if tensor.buffer == len(self.buffers):
                self.buffers.append(data)
        if scales is not None:
            quantization = schema.QuantizationParametersT()
            # arrays, which the schema's classes write at once; of lists, element by element, each in Python
            quantization.scale = np.asarray(scales.scales, dtype=np.float32)
            quantization.zeroPoint = np.full(len(quantization.scale), scales.zero_point, dtype=np.int64)
            quantization.quantizedDimension = scales.axis
            tensor.quantization = quantization
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, array: np.ndarray, scales: Scales | None = None) -> int:
        """Add a constant and return its tensor's number; the same numbers with the same scales are one tensor."""
        array = np.ascontiguousarray(array)
        data = array.tobytes()
        quantisation = None if scales is None else (scales.scales.tobytes(), scales.zero_point, scales.axis)
        key = (array.shape, array.dtype.str, data, quantisation)
        if key not in self._constants:
            self._constants[key] = self.tensor(name, array.shape, array.dtype, scales, data)
        return self._constants[key]

    def op(self, kind: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> None:
        """Append an operator of OPERATORS; ``options`` are the fields of its options table."""
        options_name, float_version, int8_version = OPERATORS[kind]
        is_int8 = self.tensors[outputs[0]].type == schema.TensorType.INT8
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(
            (kind, int8_version if is_int8 else float_version), len(self._codes)
        )
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options_name is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options_name)
            operator.builtinOptions = getattr(schema, f"{options_name}T")()
            for key, value in options.items():
                if not hasattr(operator.builtinOptions, key):
                    raise ValueError(f"{kind} has no option {key}")
                setattr(operator.builtinOptions, key, value)
        self.operators.append(operator)

    def custom_op(self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: bytes) -> None:
        """Append an operator that is not built in; ``options`` are a flexbuffer."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((kind, 1), len(self._codes))
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        operator.customOptions = list(options)
        self.operators.append(operator)

    def add_metadata(self, name: str, data: bytes) -> None:
        """Add a named block of bytes that no operator reads."""
        self._metadata[name] = len(self.buffers)
        self.buffers.append(data)

    @staticmethod
    def reopened(flatbuffer: bytes) -> tuple[TfliteBuilder, list[int], list[int]]:
        """Return a builder that holds a flatbuffer's only graph, and the tensors that are its inputs and outputs."""
        model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
        (graph,) = model.subgraphs
        builder = TfliteBuilder(graph.tensors, graph.operators)
        builder.buffers = [b"" if buffer.data is None else bytes(buffer.data) for buffer in model.buffers]
        names = {getattr(schema.BuiltinOperator, kind): kind for kind in OPERATORS}
        builder._codes = {(names[code.builtinCode], code.version): at for at, code in enumerate(model.operatorCodes)}
        return builder, list(graph.inputs), list(graph.outputs)

    def finished(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the flatbuffer of all that was added, with these tensors as the graph's inputs and outputs."""
        graph = schema.SubGraphT()
        graph.name = "main"
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        model = schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, "edgedet"
        model.subgraphs = [graph]
        model.operatorCodes = [_code(kind, version) for kind, version in self._codes]
        model.metadata = [_metadata(name, buffer) for name, buffer in self._metadata.items()]
        model.buffers = []
        for data in self.buffers:
            buffer = _AlignedBuffer()
            buffer.data = data
            model.buffers.append(buffer)
        builder = flatbuffers.Builder(sum(map(len, self.buffers)) + FREE_BYTES)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())


def _metadata(name: str, buffer: int) -> Any:
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, buffer
    return entry


def _code(kind: str, version: int) -> Any:
    code = schema.OperatorCodeT()
    if kind not in OPERATORS:
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode, code.version = kind, version
        return code
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)  # all below 127
    code.version = version
    return code
