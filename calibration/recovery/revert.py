"""Put layers back to float: make plans without them, and find the fewest layers that have to go back.

A layer is a convolution with the activation behind it, as in ``sensitivity``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import onnx

from edgedet.calibration.placement.plan import DensePlan, SparsePlan


def find_layer_nodes(model: onnx.ModelProto, layer: str) -> list[onnx.NodeProto]:
    """Return a convolution and the activation that it alone feeds: a swish, a gate's sigmoid or a ReLU6."""
    conv = next(node for node in model.graph.node if node.name == layer)
    readers = [node for node in model.graph.node if conv.output[0] in node.input]
    kinds = [node.op_type for node in readers]
    if kinds in (["Sigmoid"], ["Clip"]):
        return [conv, readers[0]]
    if kinds == ["Sigmoid", "Mul"] and set(readers[1].input) == {conv.output[0], readers[0].output[0]}:
        return [conv, *readers]
    return [conv]


def exclude_layers(
    model: onnx.ModelProto, dense: DensePlan, sparse: SparsePlan, layers: Collection[str]
) -> tuple[DensePlan, SparsePlan]:
    """Return the plans with these layers in float. The dense plan's stem must not be one: its bias holds the mean."""
    tensors, floats = dict(dense.tensors), set(dense.floats)
    for layer in layers:
        nodes = find_layer_nodes(model, layer)
        floats |= {node.name for node in nodes}
        for node in nodes[:-1]:
            tensors.pop(node.output[0], None)
    dense_convs = {name: conv for name, conv in dense.convs.items() if name not in layers}
    sparse_convs = {name: conv for name, conv in sparse.convs.items() if name not in layers}
    return DensePlan(tensors, dense_convs, frozenset(floats)), replace(sparse, convs=sparse_convs)


def find_fewest_layers(
    layers: Sequence[str], value_of: Callable[[Sequence[str]], float], required: float
) -> tuple[list[str], float] | None:
    """Return how many of the worst layers must go back to float, as (these layers, the value that is then reached).

    layers:   the worst first; the result is a beginning of this list.
    value_of: returns the value with the given layers in float.
    required: the least value that will do.
    Tries 1, 2, 4, ... layers, and then bisects the last step. None where all of them together are not enough.
    """
    if not layers:
        return None
    too_few, enough, value = 0, 1, value_of(layers[:1])
    while value < required:
        if enough == len(layers):
            return None
        too_few, enough = enough, min(2 * enough, len(layers))
        value = value_of(layers[:enough])
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        middle_value = value_of(layers[:middle])
        if middle_value >= required:
            enough, value = middle, middle_value
        else:
            too_few = middle
    return list(layers[:enough]), value
