"""Read the scales and integers of an INT8 .tflite file that edgedet wrote, as the plan from which it was written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.placement.emit import make_dense_graph
from edgedet.calibration.placement.plan import (
    CENTRED,
    DensePlan,
    QuantisedConv,
    QuantParams,
    find_fused_clips,
    read_initializers,
)
from edgedet.errors import InputError


def plan_of(flatbuffer: bytes, model: onnx.ModelProto) -> DensePlan:
    """Return the plan of scales and integers of a written file; ``model`` is the float graph that it was written from.

    Biases are float64, so that writing the plan again gives the same bytes. Raises InputError where the file was
    written from another graph.
    """
    from ai_edge_litert import schema_py_generated as schema

    file = schema.ModelT.InitFromPackedBuf(flatbuffer)
    (graph,) = file.subgraphs
    names = [tensor.name.decode() for tensor in graph.tensors]
    maker = {names[operator.outputs[0]]: operator for operator in graph.operators}
    image = graph.tensors[graph.inputs[0]]
    tensors = {CENTRED: _params(image)}
    convs: dict[str, QuantisedConv] = {}
    constants = read_initializers(model)
    shapes = {name: value.shape for name, value in constants.items()}
    after = find_fused_clips(model.graph, constants)
    for node in model.graph.node:
        name = after.get(node.output[0], node.output[0])
        if node.op_type == "Transpose" and node.input[0] in tensors:  # there is none in NHWC
            tensors[name] = tensors[node.input[0]]
        if name not in maker:
            continue
        operator = maker[name]
        tensors[name] = _params(graph.tensors[operator.outputs[0]])
        if node.op_type != "Conv":
            continue
        weight, bias = (graph.tensors[index] for index in operator.inputs[1:3])
        depthwise = weight.quantization.quantizedDimension == 3
        integers = _array(file, weight, np.int8)
        kernel_w, channels = shapes[node.input[1]][3], shapes[node.input[1]][1]
        if not depthwise and integers.shape[3] != channels:  # a stem that reads pairs of columns
            integers = integers.reshape(*integers.shape[:2], -1, channels)[:, :, :kernel_w]
        integers = integers.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
        scales = np.asarray(weight.quantization.scale, np.float32)
        per_level = _params(graph.tensors[operator.inputs[0]]).scale * scales.astype(np.float64)
        convs[node.name] = QuantisedConv(integers, scales, _array(file, bias, np.int32) * per_level)
    if convs.keys() != {node.name for node in model.graph.node if node.op_type == "Conv"}:
        raise InputError("the .tflite file was not written from this .onnx file: their convolutions differ.")
    return DensePlan(tensors, convs)


def reference_of(model: onnx.ModelProto, meta: ArtifactMeta, plan: DensePlan) -> onnx.ModelProto:
    """Return the dense Q/DQ graph, whose biases are float32 as ONNX requires."""
    convs = {
        name: replace(conv, bias=None if conv.bias is None else conv.bias.astype(np.float32))
        for name, conv in plan.convs.items()
    }
    return make_dense_graph(model, meta.spec, DensePlan(plan.tensors, convs))


def _params(tensor: Any) -> QuantParams:
    return QuantParams(float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0]))


def _array(file: Any, tensor: Any, dtype: Any) -> np.ndarray:
    data = np.asarray(file.buffers[tensor.buffer].data, np.uint8).tobytes()
    return np.frombuffer(data, dtype).reshape(tensor.shape)
