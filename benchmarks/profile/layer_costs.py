"""What each layer of an exported graph costs: multiply-accumulates and bytes.

    layers = compute_layer_costs(onnx.load("edgedet-out/my.onnx"), "fp16")
    sum(layer.macs for layer in layers)

Bytes are those of the tensors as the graph has them, each read and written once: no cache, no fusion. What an engine
fuses or keeps in a cache is for the caller to take off (``is_activation``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedet.errors import InputError

if TYPE_CHECKING:
    import onnx

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}  # of a weight or an activation

# beginning of a node's name -> part of the network, as docs and profiles call it
_PARTS = {
    "pixels": "stem",
    "backbone.conv_stem": "stem",
    "backbone.blocks": "blocks",
    "fpn": "BiFPN",
    "class_net": "class head",
    "class_logits": "class head",
    "box_net": "box head",
    "box_codes": "box head",
    "top": "best anchors",  # export/fusion/top_anchors.py
}
PARTS = tuple(dict.fromkeys(_PARTS.values()))
# operator -> op class, where neither the name nor the shapes say more; "Mul" that is left is a fusion weight
_CLASSES = {
    "Sigmoid": "swish",
    "Clip": "relu6",
    "Relu": "relu6",
    "Add": "sum",
    "Mul": "weighting",
    "MaxPool": "pool",
    "Pad": "pool",
    "Resize": "resize",
    "Reshape": "layout",
    "Concat": "layout",
    "Transpose": "layout",
    "Cast": "layout",
    **dict.fromkeys(("ReduceMax", "TopK", "Unsqueeze", "GatherND"), "selection"),
    "QuantizeLinear": "quantise",
    "DequantizeLinear": "quantise",
}
OP_CLASSES = ("stem conv", "pointwise", "depthwise", "se", "input", *dict.fromkeys(_CLASSES.values()))


@dataclass(frozen=True)
class LayerCost:
    """One node.

    name:          of the node, as in the file and in an engine's profile.
    op_class:      one of OP_CLASSES; "se" is all of a squeeze-excite, "input" from camera bytes to the stem.
    part:          one of PARTS.
    macs:          multiply-accumulates of a convolution, 0 for everything else.
    bytes_read:    of activations that it reads.
    bytes_weights: of constants that it reads.
    bytes_written: of its output.
    output_shape:  as in the graph, batch first.
    """

    name: str
    op_class: str
    part: str
    macs: int
    bytes_read: int
    bytes_weights: int
    bytes_written: int
    output_shape: tuple[int, ...]

    @property
    def bytes_moved(self) -> int:
        """Read and written, weights included."""
        return self.bytes_read + self.bytes_weights + self.bytes_written

    @property
    def is_activation(self) -> bool:
        """Whether it is an activation function alone, which engines often fuse into the convolution before it."""
        return self.op_class in ("swish", "relu6")


def compute_layer_costs(model: onnx.ModelProto, precision: str = "fp32") -> list[LayerCost]:
    """Return the cost of each node of a float or Q/DQ graph of ours, in the graph's order.

    precision: "fp32", "fp16" or "int8": the bytes of every weight and activation but the camera's bytes, which have
    one. Raises InputError for another precision, for nodes that our export does not write, and for open sizes.
    """
    from onnx import TensorProto

    from edgedet.calibration.graph.macs import count_conv_macs, read_shapes

    if precision not in BYTES:
        raise InputError(f"costs are known for {', '.join(BYTES)}; got {precision!r}.")
    shapes, macs = read_shapes(model), count_conv_macs(model)
    pixels = {value.name for value in model.graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8}
    integers = {item.name for item in model.graph.initializer if item.data_type == TensorProto.INT64}  # shapes
    from_weights = {item.name for item in model.graph.initializer}
    for node in model.graph.node:  # a Q/DQ graph's weights come out of a DequantizeLinear
        if node.input and set(node.input) <= from_weights:
            from_weights.update(node.output)

    def size(names: Iterable[str]) -> int:
        return sum(
            math.prod(shapes[name]) * (1 if name in pixels else BYTES[precision])
            for name in names
            if name and name not in integers
        )

    return [
        LayerCost(
            node.name or node.output[0],
            _op_class(node, shapes),
            find_part(node.name or node.output[0]),
            macs.get(node.name, 0),
            size(name for name in node.input if name not in from_weights),
            size(name for name in node.input if name in from_weights),
            size(node.output),
            shapes[node.output[0]],
        )
        for node in model.graph.node
        if not set(node.output) <= from_weights
    ]


def find_part(name: str) -> str:
    """Return the part of the network that a node of ours belongs to; raises InputError for others."""
    for beginning, part in _PARTS.items():
        if name.startswith(beginning):
            return part
    raise InputError(f"the node {name} is not one that edgedet export writes: costs are known for its files only.")


def find_op_class(name: str) -> str | None:
    """Return "input" or "se" where the name alone says the op class."""
    if name.startswith("pixels."):
        return "input"
    return "se" if ".se." in name or name.endswith(".se") else None


def _op_class(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> str:
    from onnx import helper

    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return "quantise"
    if named := find_op_class(node.name):
        return named
    if node.op_type == "Conv":
        groups = {item.name: helper.get_attribute_value(item) for item in node.attribute}.get("group", 1)
        if groups > 1:
            return "depthwise"
        return "pointwise" if shapes[node.input[1]][2:] == (1, 1) else "stem conv"
    if node.op_type == "Mul" and node.name.endswith(".swish"):
        return "swish"
    if node.op_type not in _CLASSES:
        raise InputError(f"{node.name} is a {node.op_type}, which edgedet export does not write.")
    return _CLASSES[node.op_type]
