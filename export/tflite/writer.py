"""Write the fused ONNX graph as a .tflite file, float32 or INT8: its input, its outputs and the file itself.

The operators between them are in operators.py.

Input: the camera's bytes with their top bit flipped, int8 (1, H, W, 3) BGR. Outputs: the prediction convolutions as
they are, per level class logits (1, h, w, anchors x classes), then per level box codes (1, h, w, anchors x 4). The
ONNX graph's reshaping and joining of levels is left out: on the device it is a view.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.placement.plan import CENTRED, DensePlan, QuantParams, find_fused_clips, read_initializers
from edgedet.engines.tflite_file import with_trailer
from edgedet.errors import UnsupportedError
from edgedet.export.tflite.builder import TfliteBuilder
from edgedet.export.tflite.op_writer import OpWriter, make_scales
from edgedet.export.tflite.operators import WRITERS, write_float_operator
from edgedet.files import atomic_path

BYTE_TO_INT8 = QuantParams(1.0, -128)  # of camera bytes whose top bit is flipped
INPUT_LAYOUT = "int8 NHWC BGR: camera bytes minus 128"
_TAIL = ("Reshape", "Transpose", "Concat")  # between the prediction convolutions and the ONNX outputs


def write_tflite(model: onnx.ModelProto, meta: ArtifactMeta, path: Path, plan: DensePlan | None = None) -> ArtifactMeta:
    """Write ``model`` to ``path``, float32 without a plan, INT8 with one; returns the metadata as written.

    Raises UnsupportedError naming the node where the graph holds what this writer does not know.
    """
    flatbuffer, outputs = tflite_from_graph(model, plan)
    precision = "fp32" if plan is None else "int8"
    meta = replace(meta, outputs=outputs, top_anchors=0, max_batch=1, precision=precision, input_layout=INPUT_LAYOUT)
    with atomic_path(path) as temporary:
        temporary.write_bytes(with_trailer(flatbuffer, meta))
    return meta


def tflite_from_graph(
    model: onnx.ModelProto, plan: DensePlan | None = None, every_value: bool = False
) -> tuple[bytes, tuple[str, ...]]:
    """Return the flatbuffer and its outputs' names: per level class logits, then per level box codes.

    every_value: make each value of the graph an output, so that each can be read.
    """
    graph = model.graph
    constants = read_initializers(model)
    producers = {node.output[0]: node for node in graph.node}
    levels = [_level_values(value.name, producers) for value in graph.output]
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    w = OpWriter(TfliteBuilder(), constants, shapes, plan, find_fused_clips(graph, constants))
    real = OpWriter(w.builder, constants, shapes, None, w.relu6_of)  # of layers that stay float in an INT8 file
    floats = plan.floats if plan is not None else ()
    image, rest = _write_input(w, graph)
    for node in rest:
        if node.op_type in _TAIL or node.output[0] in w.tensors:  # the latter: a ReLU6 that is part of a convolution
            continue
        if node.op_type not in WRITERS:
            raise UnsupportedError(f"node {node.name} is a {node.op_type}, which the TFLite writer does not know.")
        known = (w.tensors, real.tensors, constants)
        if any(name and not any(name in holder for holder in known) for name in node.input):
            raise UnsupportedError(f"node {node.name} ({node.op_type}) reads what the TFLite writer leaves out.")
        if node.name in floats:
            write_float_operator(w, real, node)
        else:
            WRITERS[node.op_type](w, node)
    outputs = tuple(w.relu6_of.get(name, name) for group in levels for name in group)
    if every_value:
        outputs = tuple(name for name in w.tensors if name in producers)
    return w.builder.finished([image], [w.tensors[name] for name in outputs]), outputs


def _level_values(output: str, producers: dict[str, onnx.NodeProto]) -> list[str]:
    """Return the values that an ONNX output joins, in its order."""
    if output not in producers:
        raise UnsupportedError(f"no node makes the output {output}.")
    node = producers[output]
    if node.op_type == "Concat":
        return [name for value in node.input for name in _level_values(value, producers)]
    return _level_values(node.input[0], producers) if node.op_type in _TAIL else [output]


def _write_input(w: OpWriter, graph: onnx.GraphProto) -> tuple[int, list[onnx.NodeProto]]:
    """Write how camera bytes become numbers around 0; return the input tensor and the nodes that follow.

    An INT8 graph needs no operator for it: its input tensor holds such numbers already. NHWC needs no Transpose.
    """
    kinds = [node.op_type for node in graph.node[:3]]
    if kinds != ["Cast", "Sub", "Transpose"]:
        raise UnsupportedError(
            f"node {graph.node[0].name}: the graph starts with {kinds}, not with Cast, Sub, Transpose."
        )
    cast, sub, transpose = graph.node[:3]
    shape = w.shapes[cast.input[0]]
    params: QuantParams = BYTE_TO_INT8 if w.plan is None else w.params(CENTRED)
    image = w.builder.tensor(cast.input[0], shape, np.int8, make_scales(params))
    centred = image
    if w.plan is None:
        bytes_ = w.builder.tensor(cast.output[0], shape, np.float32)
        w.builder.op("DEQUANTIZE", [image], [bytes_])
        w.tensors[cast.output[0]] = bytes_
        centred = w.builder.tensor(sub.output[0], shape, np.float32)
        w.builder.op("SUB", [bytes_, w.builder.constant(sub.input[1], w.constants[sub.input[1]])], [centred])
    w.tensors[transpose.output[0]] = centred
    return image, list(graph.node[3:])
