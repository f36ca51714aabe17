"""The operators of a .tflite file: what each costs, and which of the operators that LiteRT timed it is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgedet.benchmarks.profile.layer_costs import find_op_class

SWISH = "LOGISTIC and MUL"  # which XNNPACK runs as one operator
# convolutions -> axes of the weight that a cell of the output takes a product of (the schema: a convolution's weight is
# OHWI, a depthwise one's 1HWC, a fully connected layer's OI)
_WEIGHT_AXES = {"CONV_2D": (1, 2, 3), "DEPTHWISE_CONV_2D": (1, 2), "FULLY_CONNECTED": (1,)}
_TYPE_BYTES = {"FLOAT32": 4, "INT32": 4, "FLOAT16": 2, "INT16": 2, "INT64": 8}  # all others one
_OP_CLASSES = {
    SWISH: "swish",
    "LOGISTIC": "swish",
    "DEPTHWISE_CONV_2D": "depthwise",
    "ADD": "sum",
    "MUL": "weighting",
    "MAX_POOL_2D": "pool",
    "PAD": "pool",
    "PADV2": "pool",
    "RESIZE_NEAREST_NEIGHBOR": "resize",
    "RESHAPE": "layout",
    "TRANSPOSE": "layout",
    "CONCATENATION": "layout",
    "QUANTIZE": "quantise",
    "DEQUANTIZE": "quantise",
}
# XNNPACK's names, as its profile begins them, -> ours (xnnpack/operator-type); "Invalid Unary Op" is a look-up table
_XNNPACK = {
    "Fully Connected": "CONV_2D",
    "Convolution": "CONV_2D",
    "Invalid Unary Op": SWISH,
    "Sigmoid": "LOGISTIC",
    "Multiply": "MUL",
    "Add": "ADD",
    "Subtract": "SUB",
    "Convert": "DEQUANTIZE",
    "Mean": "MEAN",
    "Max Pooling": "MAX_POOL_2D",
    "Static Reshape": "RESHAPE",
    "Transpose": "TRANSPOSE",
    "Constant Pad": "PAD",
    "Clamp": "RELU6",
}
_SAME = {"FULLY_CONNECTED": "CONV_2D", "QUANTIZE": "DEQUANTIZE", "CAST": "DEQUANTIZE", "PADV2": "PAD"}
_APART = ("ADD", "SUB", "MUL")  # whose activation is an operator of its own to XNNPACK
_DELEGATE = "Delegate/"

# what LiteRT says of an operator: (its kind, "Delegate/..." for XNNPACK's; its place among those of its partition, or
# in the file) -> (milliseconds of a run, how many operators that is)
if TYPE_CHECKING:  # Python 3.8 cannot evaluate it
    Rows = Mapping[tuple[str, int], tuple[float, int]]


@dataclass(frozen=True)
class Operator:
    """One operator as XNNPACK runs it: a swish's two are one.

    name:            of its output, which is the node's name in our ONNX file.
    inputs, outputs: tensors that it reads, constants left out, and makes.
    moved:           bytes of its inputs, constants and outputs, each once.
    activation:      bytes that its activation moves where XNNPACK runs that apart, else 0.
    """

    kind: str
    name: str
    macs: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    moved: int
    op_class: str
    activation: int = 0


def list_kinds(schema: Any, model: Any) -> list[str]:
    """Return each operator's name in the schema."""
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    (graph,) = model.subgraphs
    return [names[codes[operator.opcodeIndex]] for operator in graph.operators]


def find_swishes(operators: Sequence[Any], kinds: Sequence[str]) -> dict[int, int]:
    """Return LOGISTIC -> MUL where the MUL alone reads the LOGISTIC, and multiplies it with what that reads."""
    readers: dict[int, list[int]] = defaultdict(list)
    for index, operator in enumerate(operators):
        for tensor in to_int_list(operator.inputs):
            readers[tensor].append(index)
    second_of = {}
    for index, (operator, kind) in enumerate(zip(operators, kinds)):
        if kind == "LOGISTIC":
            x, y = int(operator.inputs[0]), int(operator.outputs[0])
            last = readers[y][0] if len(readers[y]) == 1 else index
            if kinds[last] == "MUL" and set(to_int_list(operators[last].inputs)) == {x, y}:
                second_of[index] = last
    return second_of


def to_int_list(values: Any) -> list[int]:
    """Return the schema's numbers, an array or None, as a list."""
    return [] if values is None else [int(value) for value in values]


def read_operators(flatbuffer: bytes) -> list[Operator]:
    """Return the operators of a file in order."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer))
    (graph,) = model.subgraphs
    types = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    from_graph = {int(tensor) for operator in graph.operators for tensor in operator.outputs}
    from_graph.update(map(int, graph.inputs))

    def size(tensor: int) -> int:
        item = graph.tensors[tensor]
        return math.prod(map(int, item.shape)) * _TYPE_BYTES.get(types[item.type], 1)

    operators = []
    for operator, kind in zip(graph.operators, list_kinds(schema, model)):
        inputs_and_constants = [int(tensor) for tensor in operator.inputs if tensor >= 0]
        outputs = [int(tensor) for tensor in operator.outputs]
        name = graph.tensors[outputs[0]].name.decode()
        weight = [int(axis) for axis in graph.tensors[inputs_and_constants[1]].shape] if kind in _WEIGHT_AXES else []
        macs = math.prod(map(int, graph.tensors[outputs[0]].shape)) if weight else 0
        macs *= math.prod(weight[axis] for axis in _WEIGHT_AXES.get(kind, ()))
        moved = sum(size(tensor) for tensor in {*inputs_and_constants, *outputs})
        inputs = tuple(tensor for tensor in inputs_and_constants if tensor in from_graph)
        is_apart = kind in _APART and operator.builtinOptions.fusedActivationFunction
        activation = 2 * sum(map(size, outputs)) if is_apart else 0
        operators.append(
            Operator(kind, name, macs, inputs, tuple(outputs), moved, _op_class(kind, name, weight), activation)
        )
    return operators


def _op_class(kind: str, name: str, weight: Sequence[int]) -> str:
    if named := find_op_class(name):
        return named
    if kind == "CONV_2D":
        return "pointwise" if weight[1:3] == [1, 1] else "stem conv"
    return "swish" if name.endswith(".swish") else _OP_CLASSES.get(kind, "other")


def match_times(
    operators: Sequence[Operator], rows: Rows, least_ms: Callable[[Operator], float]
) -> list[tuple[Operator, float]] | None:
    """Return each operator with its milliseconds; None where LiteRT ran other operators than the file suggests.

    LiteRT counts XNNPACK's operators from 0 in each partition and adds up those of the same kind and place, so their
    time is divided by ``least_ms``, what each must cost at least.
    """
    outside = {place for kind, place in rows if not kind.startswith(_DELEGATE)}
    seen: dict[tuple[str, int], tuple[float, int]] = {}
    for (kind, place), (ms, count) in rows.items():
        key = _family(kind), place
        before_ms, before = seen.get(key, (0.0, 0))
        seen[key] = before_ms + ms, before + count
    for fuse in (True, False):  # XNNPACK fuses the swishes of INT8 files
        expected: dict[tuple[str, int], list[Operator]] = defaultdict(list)
        for place in outside & set(range(len(operators))):
            expected[operators[place].kind, place].append(operators[place])
        for partition in find_partitions(operators, outside):
            members = [operators[place] for place in partition]
            for place, operator in enumerate(_with_activations(fuse_swishes(members) if fuse else members)):
                kind = _SAME.get(operator.kind, operator.kind)
                expected[_DELEGATE + kind, place].append(operator)
        if {key: len(same) for key, same in expected.items()} == {key: count for key, (_, count) in seen.items()}:
            return [
                (operator, seen[key][0] * least_ms(operator) / sum(map(least_ms, same)))
                for key, same in expected.items()
                for operator in same
            ]
    return None


def _family(kind: str) -> str:
    """Return "Delegate/CONV_2D" for "Delegate/Fully Connected (NC, QS8, QC8W) GEMM"; other names as they are."""
    name = kind[len(_DELEGATE) :] if kind.startswith(_DELEGATE) else kind
    if kind == name:
        return kind
    if name.endswith("DWConv"):
        return f"{_DELEGATE}DEPTHWISE_CONV_2D"
    return _DELEGATE + next((ours for theirs, ours in _XNNPACK.items() if name.startswith(theirs)), name)


def fuse_swishes(operators: Sequence[Operator]) -> list[Operator]:
    """Return operators with each swish's two as one, which reads its input once and writes its output once."""
    second_of = find_swishes(operators, [operator.kind for operator in operators])
    return [
        replace(operators[second_of[index]], kind=SWISH, inputs=operator.inputs, moved=operator.moved)
        if index in second_of
        else operator
        for index, operator in enumerate(operators)
        if index not in second_of.values()
    ]


def _with_activations(operators: Sequence[Operator]) -> Iterator[Operator]:
    for operator in operators:
        yield operator
        if operator.activation:
            yield replace(operator, kind="RELU6", macs=0, moved=operator.activation, op_class="relu6")


def find_partitions(operators: Sequence[Operator], outside: AbstractSet[int]) -> list[list[int]]:
    """Return the operators of each of XNNPACK's partitions, in the order in which they run.

    As TFLite divides a graph (tensorflow/lite/graph_info.cc): whatever can run by now of one side, then of the other.
    """
    unmade = {tensor for operator in operators for tensor in operator.outputs}
    left, partitions = list(range(len(operators))), []
    while left:
        side, members = None, []
        for index in [*left, *left]:  # twice: what comes late in the file may make an earlier one ready
            operator = operators[index]
            if index in members or unmade.intersection(operator.inputs) or side not in (None, index in outside):
                continue
            side = index in outside
            members.append(index)
            unmade.difference_update(operator.outputs)
        if not members:  # a cycle: no TFLite file
            return []
        left = [index for index in left if index not in members]
        if not side:
            partitions.append(members)
    return partitions
