"""What the writers of TFLite operators share: the tensors of one graph by the names of their ONNX values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import helper

from edgedet.calibration.placement.plan import DensePlan, QuantParams
from edgedet.errors import UnsupportedError
from edgedet.export.tflite.builder import Scales, TfliteBuilder

NHWC_AXES = (0, 2, 3, 1)  # ONNX axis of each TFLite axis


@dataclass
class OpWriter:
    """Writes the operators of one graph, and remembers which TFLite tensor holds which ONNX value.

    shapes:   of every ONNX value, in ONNX's order of axes.
    plan:     scales and integers of an INT8 file; None for float32.
    relu6_of: value -> the output of the Clip behind it, where one operator computes both.
    tensors:  ONNX value -> number of its TFLite tensor.
    """

    builder: TfliteBuilder
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    plan: DensePlan | None
    relu6_of: dict[str, str]
    tensors: dict[str, int] = field(default_factory=dict)

    def shape(self, value: str) -> tuple[int, int, int, int]:
        """Return (N, H, W, C) of a value that is NCHW in ONNX."""
        n, c, h, w = self.shapes[value]
        return n, h, w, c

    def output(self, value: str) -> tuple[int, int]:
        """Create the tensor that an operator writes for ``value``; return it and the activation fused into it."""
        name = self.relu6_of.get(value, value)
        self.tensors[name] = self.activation(name, self.shape(name))
        activation = schema.ActivationFunctionType
        return self.tensors[name], activation.NONE if name == value else activation.RELU6

    def activation(self, name: str, shape: Sequence[int]) -> int:
        """Create a tensor of the graph, float32 or int8 by the plan."""
        if self.plan is None:
            return self.builder.tensor(name, shape, np.float32)
        return self.builder.tensor(name, shape, np.int8, make_scales(self.params(name)))

    def params(self, name: str) -> QuantParams:
        """Return the plan's parameters of a tensor; raises UnsupportedError where it has none."""
        assert self.plan is not None
        if name not in self.plan.tensors:
            raise UnsupportedError(f"the plan of INT8 scales lacks the tensor {name}: calibrate this model again.")
        return self.plan.tensors[name]

    def integers(self, name: str, array: np.ndarray) -> int:
        """Add an int32 constant that is not quantised: axes, sizes, paddings."""
        return self.builder.constant(name, np.asarray(array, np.int32))


def make_scales(params: QuantParams) -> Scales:
    """Return one tensor's scale and zero point."""
    return Scales(np.array([params.scale], np.float32), params.zero_point)


def read_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python values."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}
