"""Turn a sparse Q/DQ graph into FP16, for TensorRT's strong typing.

TensorRT 11 takes each layer's precision from the graph alone: what is float there runs in FP32. So the integers stay,
and everything else but the mean's subtraction becomes FP16: scales, biases, what is computed between DQ and Q.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.calibration.placement.plan import CENTRED, INT8_MAX, read_initializers
from edgedet.errors import UnsupportedError

OPSET = 19  # the first whose QuantizeLinear and DequantizeLinear take FP16 scales
IR_VERSION = 9  # ONNX 1.14, which brought opset 19
# A quantiser divides by its scale: the smallest normal FP16 number has a reciprocal that is finite in FP16 too.
SMALLEST_ACTIVATION_SCALE = np.float16(2.0**-14)
SMALLEST_WEIGHT_SCALE = np.float16(2.0**-24)  # the smallest FP16 number: TensorRT refuses a scale of 0
LARGEST = float(np.finfo(np.float16).max)


def make_typed_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``make_sparse_graph``'s model in FP16, its weights as integers; inputs and outputs keep names and types.

    Pixels become FP16 behind the mean's subtraction, where that rounds by 1/16 of a grey level at most and an INT8 step
    is about one level; rounding the mean would add up to 1/32. Raises UnsupportedError where a constant is beyond FP16.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = read_initializers(model)
    _quantise_weights(graph, constants)
    sources = {name: node for node in graph.node for name in node.output}
    if CENTRED not in sources:
        raise UnsupportedError(f"make_typed_graph wants a graph that computes {CENTRED}: export it with edgedet.")
    outputs = {item.name for item in graph.output if item.type.tensor_type.elem_type == TensorProto.FLOAT}
    nodes: list[onnx.NodeProto] = []
    halves: dict[str, np.ndarray] = {}
    before = _computing(CENTRED, sources)
    for node in graph.node:
        nodes.append(node)
        if node.name in before:
            continue
        if node.op_type in ("ReduceMean", "ReduceMax"):
            _move_axes(node, halves)
        halves.update(_halves(node, constants))
        node.input[:] = [f"{CENTRED}.half" if name == CENTRED else name for name in node.input]
        for index, name in enumerate(node.output):
            if name in outputs:
                node.output[index] = f"{name}.half"
                nodes.append(_cast(f"{name}.half", name, TensorProto.FLOAT))
    centred = next(index for index, node in enumerate(nodes) if CENTRED in node.output)
    nodes.insert(centred + 1, _cast(CENTRED, f"{CENTRED}.half", TensorProto.FLOAT16))
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in {**constants, **halves}.items() if name in used
    )
    del result.opset_import[:]
    result.opset_import.append(helper.make_opsetid("", OPSET))
    result.ir_version = IR_VERSION
    onnx.checker.check_model(result, full_check=True)
    return result


def _quantise_weights(graph: onnx.GraphProto, constants: dict[str, np.ndarray]) -> None:
    """Replace each quantiser of a constant by the integers that it gives, for which TensorRT 11 wants no quantiser."""
    quantisers = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] in constants]
    for node in quantisers:
        weight, scales = constants[node.input[0]], constants[node.input[1]]
        integers = np.rint(weight / scales.reshape((-1,) + (1,) * (weight.ndim - 1)))
        constants[node.output[0]] = np.clip(integers, -INT8_MAX, INT8_MAX).astype(np.int8)
        graph.node.remove(node)


def _computing(name: str, sources: dict[str, onnx.NodeProto]) -> set[str]:
    """Return the names of the nodes that a value is computed by."""
    if name not in sources:
        return set()
    node = sources[name]
    return {node.name}.union(*(_computing(read, sources) for read in node.input))


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=kind)


def _move_axes(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> None:
    """Make the axes of ReduceMean or ReduceMax an input, as opset 18 did; no other operator of these graphs changed."""
    axes = next(item for item in node.attribute if item.name == "axes")
    node.attribute.remove(axes)
    name = f"{node.name}.axes"
    constants[name] = np.array(axes.ints, np.int64)
    node.input.append(name)


def _halves(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a node's float constants in FP16, and integer weights that fit their rounded scales."""
    if node.op_type == "DequantizeLinear" and node.input[0] in constants:
        weight, scales = constants[node.input[0]], constants[node.input[1]]
        rounded = np.maximum(scales.astype(np.float16), SMALLEST_WEIGHT_SCALE)
        shape = (-1,) + (1,) * (weight.ndim - 1)
        real = weight * scales.astype(np.float64).reshape(shape)
        integers = np.clip(np.rint(real / rounded.astype(np.float64).reshape(shape)), -INT8_MAX, INT8_MAX)
        return {node.input[0]: integers.astype(np.int8), node.input[1]: rounded}
    if node.op_type == "Resize":  # its factors are FP32 whatever it resizes
        return {}
    converted = {}
    for name in node.input:
        if name in constants and constants[name].dtype == np.float32:
            if np.abs(constants[name]).max(initial=0.0) > LARGEST:
                raise UnsupportedError(f"{name} holds values beyond {LARGEST:.0f}, FP16's largest: use opset 17.")
            converted[name] = constants[name].astype(np.float16)
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        converted[node.input[1]] = np.maximum(converted[node.input[1]], SMALLEST_ACTIVATION_SCALE)
    return converted
