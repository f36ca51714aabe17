"""Split a .tflite file into many small ones, one for each operator, so that the cost of each can be measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedet.benchmarks.profile.tflite_nodes import SWISH, find_swishes, list_kinds, to_int_list

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


@dataclass(frozen=True)
class Part:
    """One operator as a model of its own, or the two operators of a swish, which XNNPACK runs as one.

    kind:       the operator's name in the schema, such as "CONV_2D", or SWISH.
    operators:  how many operators of the file it contains: 1 or 2.
    shapes:     of its inputs and outputs, as text.
    flatbuffer: the model.
    key:        the same for parts that cost the same: kind, options, types and shapes.
    """

    kind: str
    operators: int
    shapes: str
    flatbuffer: bytes
    key: str

    @property
    def is_convolution(self) -> bool:
        """Whether it multiplies by weights."""
        return self.kind in CONVOLUTIONS


def parts_of(path: Path) -> Iterator[Part]:
    """Yield the parts of a file in the order in which they run."""
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    (graph,) = model.subgraphs
    kinds = list_kinds(schema, model)
    second_of = find_swishes(graph.operators, kinds)
    for index, operator in enumerate(graph.operators):
        if index in second_of:
            both = [operator, graph.operators[second_of[index]]]
            yield _part(schema, model, graph, both, SWISH, data)
        elif index not in second_of.values():
            yield _part(schema, model, graph, [operator], kinds[index], data)


def _part(schema: Any, model: Any, graph: Any, operators: list[Any], kind: str, data: bytes) -> Part:
    """Return operators as a model: its inputs are the tensors that none of them writes, its outputs the last one's."""
    alone, sub = schema.ModelT(), schema.SubGraphT()
    alone.version, alone.operatorCodes, alone.buffers, alone.subgraphs = model.version, [], [schema.BufferT()], [sub]
    sub.tensors, sub.operators, sub.inputs = [], [], []
    made = {tensor for operator in operators for tensor in to_int_list(operator.outputs)}
    numbers: dict[int, int] = {}
    described, same = [], [kind]

    def take(index: int) -> int:
        if index < 0:  # an input that is left out
            return index
        if index not in numbers:
            old, new = graph.tensors[index], schema.TensorT()
            new.__dict__.update(old.__dict__)
            constant = _constant(model.buffers[old.buffer], data)
            new.buffer, new.shapeSignature = 0, None
            if constant:
                buffer = schema.BufferT()
                buffer.data = list(constant)
                alone.buffers.append(buffer)
                new.buffer = len(alone.buffers) - 1
            numbers[index] = len(sub.tensors)
            sub.tensors.append(new)
            described.append(f"{'x'.join(map(str, to_int_list(new.shape)))}{' constant' if constant else ''}")
            same.append(f"{described[-1]} {new.type}")
            if not constant and index not in made:
                sub.inputs.append(numbers[index])
        return numbers[index]

    for operator in operators:
        single = schema.OperatorT()
        single.opcodeIndex = len(alone.operatorCodes)
        alone.operatorCodes.append(model.operatorCodes[operator.opcodeIndex])
        single.builtinOptionsType, single.builtinOptions = operator.builtinOptionsType, operator.builtinOptions
        single.inputs = [take(int(index)) for index in to_int_list(operator.inputs)]
        single.outputs = [take(int(index)) for index in to_int_list(operator.outputs)]
        sub.operators.append(single)
        sub.outputs = list(single.outputs)
        options = {} if operator.builtinOptions is None else vars(operator.builtinOptions)
        same.append(f"{sorted(options.items())} {single.inputs} {single.outputs}")
    key = hashlib.sha256("\n".join(same).encode()).hexdigest()
    return Part(kind, len(operators), ", ".join(described), _packed(alone), key)


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _constant(buffer: Any, data: bytes) -> bytes:
    """Return a buffer's bytes, which may lie behind the flatbuffer."""
    if buffer.data is not None and len(buffer.data):
        return bytes(bytearray(buffer.data))
    return data[buffer.offset : buffer.offset + buffer.size] if buffer.size else b""
