"""Run a fused float graph in PyTorch, operator by operator, for the operators that ``export/fusion`` writes.

onnxruntime is faster, but gives no access to the values inside the graph: calibration reads every value, and recovery
changes some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper
from torch import Tensor

from edgedet.calibration.placement.plan import QuantisedConv, read_initializers
from edgedet.errors import UnsupportedError

Visit = Callable[[onnx.NodeProto, Tensor], Tensor]
OUTPUTS = ("class_logits", "box_codes")


class Executor:
    """A fused graph, ready to run on pixels."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Constants become tensors of the type that they have in the graph."""
        self.nodes = list(model.graph.node)
        self.opsets, self.ir_version = list(model.opset_import), model.ir_version
        self.constants = {name: torch.from_numpy(array.copy()) for name, array in read_initializers(model).items()}
        self._attributes = [{a.name: helper.get_attribute_value(a) for a in node.attribute} for node in self.nodes]
        self._last_use = {name: index for index, node in enumerate(self.nodes) for name in node.input}

    def steps(self) -> Iterable[tuple[onnx.NodeProto, Mapping[str, Any]]]:
        """Return each node with its attributes, in the order of execution."""
        return zip(self.nodes, self._attributes, strict=True)

    @torch.inference_mode()
    def run(
        self, pixels: np.ndarray, visit: Visit | None = None, convs: Mapping[str, QuantisedConv] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return class logits (N, A, C) and box codes (N, A, 4) of (N, H, W, 3) uint8 BGR pixels.

        visit: called with each node and its output; returns the value that the nodes after it read.
        convs: node name -> integers that replace the float weights and biases.
        """
        values: dict[str, Tensor] = {"pixels": torch.from_numpy(pixels)}
        for index, (node, attributes) in enumerate(self.steps()):
            inputs = [self._read(name, values) for name in node.input]
            if convs and node.name in convs:
                inputs = [inputs[0], *dequantise(convs[node.name])]
            value = compute(node, inputs, attributes)
            values[node.output[0]] = value if visit is None else visit(node, value)
            for name in node.input:
                if self._last_use[name] == index and name in values:
                    del values[name]
        logits, codes = (values[name].numpy() for name in OUTPUTS)
        return logits, codes

    @torch.inference_mode()
    def values(self, pixels: np.ndarray) -> dict[str, Tensor]:
        """Return every value of the graph for (N, H, W, 3) uint8 pixels."""
        values: dict[str, Tensor] = {"pixels": torch.from_numpy(pixels)}
        for node, attributes in self.steps():
            values[node.output[0]] = compute(node, [self._read(name, values) for name in node.input], attributes)
        return values

    @torch.inference_mode()
    def outputs_after(
        self, values: Mapping[str, Tensor], changed: Mapping[str, Tensor], visit: Visit | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return class logits and box codes after some of ``values`` changed.

        Computes only the nodes that depend on the changed values.
        changed: the new values. visit: as in ``run``, for the nodes that are computed.
        """
        new = dict(changed)
        for index, (node, attributes) in enumerate(self.steps()):
            if node.output[0] in changed or not any(name in new for name in node.input):
                continue
            inputs = [new[name] if name in new else self._read(name, values) for name in node.input]
            value = compute(node, inputs, attributes)
            new[node.output[0]] = value if visit is None else visit(node, value)
            for name in node.input:
                if self._last_use[name] == index:
                    new.pop(name, None)
        logits, codes = (new.get(name, values[name]) for name in OUTPUTS)
        return logits, codes

    def _read(self, name: str, values: Mapping[str, Tensor]) -> Tensor | None:
        if not name:
            return None
        return values[name] if name in values else self.constants[name]


def compute(node: onnx.NodeProto, inputs: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    """Return a node's output; raises UnsupportedError for an operator that the exporter does not write."""
    if node.op_type not in _OPERATORS:
        raise UnsupportedError(f"calibration does not know the operator {node.op_type} (node {node.name}).")
    return _OPERATORS[node.op_type](inputs, attributes)


def dequantise(q: QuantisedConv) -> tuple[Tensor, Tensor | None]:
    """Return a convolution's weight and bias as real numbers."""
    weight = torch.from_numpy(q.weight * q.scales[:, None, None, None])
    return weight, None if q.bias is None else torch.from_numpy(q.bias)


def _conv(inputs: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    x, weight, bias = inputs if len(inputs) == 3 else (*inputs, None)
    top, left, bottom, right = attributes["pads"]
    strides, groups = attributes["strides"], attributes["group"]
    if (top, left) == (bottom, right):
        return F.conv2d(x, weight, bias, strides, (top, left), groups=groups)
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, strides, groups=groups)


def _pad(inputs: list[Any], _attributes: Mapping[str, Any]) -> Tensor:
    x, amounts = inputs
    _, _, top, left, _, _, bottom, right = amounts.tolist()  # ONNX: the starts of N, C, H and W, then their ends
    return F.pad(x, (left, right, top, bottom))


def _max_pool(inputs: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    top, left, bottom, right = attributes["pads"]
    padded = F.pad(inputs[0], (left, right, top, bottom), value=-torch.inf)  # never wins, never seen by an observer
    return F.max_pool2d(padded, attributes["kernel_shape"], attributes["strides"])


_OPERATORS: dict[str, Callable[[list[Any], Mapping[str, Any]], Tensor]] = {
    "Cast": lambda i, a: i[0].float(),
    "Sub": lambda i, a: i[0] - i[1],
    "Transpose": lambda i, a: i[0].permute(a["perm"]),
    "Conv": _conv,
    "Sigmoid": lambda i, a: torch.sigmoid(i[0]),
    "Mul": lambda i, a: i[0] * i[1],
    "Add": lambda i, a: i[0] + i[1],
    "Clip": lambda i, a: torch.clamp(i[0], float(i[1]), float(i[2])),
    "Pad": _pad,
    "MaxPool": _max_pool,
    "Resize": lambda i, a: F.interpolate(i[0], tuple(i[3].tolist()[2:]), mode="nearest"),
    "GlobalAveragePool": lambda i, a: i[0].mean((2, 3), keepdim=True),
    "ReduceMean": lambda i, a: i[0].mean(tuple(a["axes"]), keepdim=True),
    "Reshape": lambda i, a: i[0].reshape((len(i[0]), *i[1].tolist()[1:])),  # the graph's own batch is 1
    "Concat": lambda i, a: torch.cat(i, a["axis"]),
}
