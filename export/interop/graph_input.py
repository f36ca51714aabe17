"""Read a graph that edgedet wrote, and change how pictures enter it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.artifact import ArtifactMeta
from edgedet.errors import UnsupportedError
from edgedet.export.onnx_file import read_graph

ORIGIN_KEY = "edgedet.made_from"


def load_graph(path: Path) -> tuple[onnx.ModelProto, ArtifactMeta]:
    """Return the graph of a file that edgedet wrote, float or INT8, and its metadata, which the graph no longer holds.

    Both are of one picture and all anchors. The graph keeps the checkpoint's SHA-256 only: with other outputs it is no
    file of edgedet's engines.
    """
    model, meta = read_graph(path)
    helper.set_model_props(model, {ORIGIN_KEY: meta.source_sha256})
    return model, replace(meta.with_top_anchors(0), max_batch=1)


def take_float_planes(model: onnx.ModelProto, meta: ArtifactMeta, name: str) -> None:
    """Change the input of a graph, in place, from (1, H, W, 3) bytes to (1, 3, H, W) float32 of 0 to 255, still BGR."""
    graph = model.graph
    kinds = [node.op_type for node in graph.node[:3]]
    if kinds != ["Cast", "Sub", "Transpose"]:
        raise UnsupportedError(f"the graph starts with {kinds}, not with Cast, Sub, Transpose: export the model again.")
    sub, transpose = graph.node[1], graph.node[2]
    mean = next(item for item in graph.initializer if item.name == sub.input[1])
    # the same three numbers at each pixel
    planes = np.broadcast_to(numpy_helper.to_array(mean), (1, *meta.spec.input_hw, 3))[0, 0, 0].reshape(1, 3, 1, 1)
    graph.initializer.append(numpy_helper.from_array(planes, f"{mean.name}.planes"))
    centred = helper.make_node("Sub", [name, f"{mean.name}.planes"], [transpose.output[0]], name=f"{sub.name}.planes")
    stale = {graph.node[0].output[0], sub.output[0]}
    del graph.node[:3]
    graph.node.insert(0, centred)
    graph.initializer.remove(mean)
    for value in [value for value in graph.value_info if value.name in stale]:
        graph.value_info.remove(value)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, *meta.spec.input_hw)))
