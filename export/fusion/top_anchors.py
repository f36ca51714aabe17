"""Let a graph end in the anchors of the highest class logits, so that few bytes leave it.

A model of 90 classes has 18 MB of logits for each picture, of which a few hundred numbers matter. The graph keeps whole
rows, all classes of an anchor, so that every rule of post-processing reads what it would read of all anchors:
(docs/decisions/0027-top-anchors.md).
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.artifact import ALL_OUTPUTS, TOP_OUTPUTS
from edgedet.errors import InputError

# TensorRT's TopK takes no more (its Operators' Reference, "TopK"). MAX_CANDIDATES pairs of anchor and class have at
# most as many anchors, so that little more would never be read.
MOST_TOP_ANCHORS = 3840
PREFIX = "top."  # of the names of the nodes and constants that are added
_AXES_ARE_INPUTS = 18  # opset from which ReduceMax takes its axes as an input


def check_top_anchors(count: int) -> None:
    """Raise InputError for a number of anchors that TensorRT cannot keep."""
    if not 0 <= count <= MOST_TOP_ANCHORS:
        raise InputError(
            f"--top-anchors takes 1 to {MOST_TOP_ANCHORS}, TensorRT's most, or 0 for all anchors; got {count}."
        )


def keep_top_anchors(model: onnx.ModelProto, count: int) -> onnx.ModelProto:
    """Return the graph with the outputs TOP_OUTPUTS instead of ALL_OUTPUTS: the rows of the ``count`` best anchors.

    The best are those whose highest logit of any class is highest. Rows come best first; the third output, (1, count)
    int32, says which anchors they are of. With 0, or a graph that keeps them already, the graph is returned as it is.
    """
    names = [value.name for value in model.graph.output]
    if count == 0 or names == list(TOP_OUTPUTS):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    logits, codes = ALL_OUTPUTS
    top_logits, top_codes, top_anchors = TOP_OUTPUTS
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.output}

    def constant(name: str, values: list[int]) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), f"{PREFIX}{name}"))
        return f"{PREFIX}{name}"

    def op(kind: str, inputs: list[str], outputs: list[str], **attributes: int | list[int]) -> None:
        graph.node.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))

    best, score, index, row = f"{PREFIX}best", f"{PREFIX}score", f"{PREFIX}index", f"{PREFIX}row"
    if next(item.version for item in model.opset_import if not item.domain) < _AXES_ARE_INPUTS:
        op("ReduceMax", [logits], [best], axes=[2], keepdims=0)
    else:
        op("ReduceMax", [logits, constant("classes_axis", [2])], [best], keepdims=0)
    op("TopK", [best, constant("count", [count])], [score, index], axis=1, largest=1, sorted=1)
    op("Unsqueeze", [index, constant("row_axis", [2])], [row])
    op("GatherND", [logits, row], [top_logits], batch_dims=1)
    op("GatherND", [codes, row], [top_codes], batch_dims=1)
    op("Cast", [index], [top_anchors], to=TensorProto.INT32)
    del graph.output[:]
    for name, source in ((top_logits, logits), (top_codes, codes)):
        batch, _, width = shapes[source]
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, count, width]))
    graph.output.append(helper.make_tensor_value_info(top_anchors, TensorProto.INT32, [batch, count]))
    graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    )
    return result


def keep_all_anchors(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph as it was before ``keep_top_anchors``."""
    if [value.name for value in model.graph.output] != list(TOP_OUTPUTS):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    whole = {value.name: value for value in graph.value_info if value.name in ALL_OUTPUTS}
    nodes = [node for node in graph.node if not node.name.startswith(PREFIX) and node.name not in TOP_OUTPUTS]
    constants = [item for item in graph.initializer if not item.name.startswith(PREFIX)]
    others = [value for value in graph.value_info if value.name not in ALL_OUTPUTS]
    for field, items in (
        (graph.node, nodes),
        (graph.initializer, constants),
        (graph.value_info, others),
        (graph.output, [whole[name] for name in ALL_OUTPUTS]),
    ):
        kept = [type(item).FromString(item.SerializeToString()) for item in items]
        del field[:]
        field.extend(kept)
    return result
