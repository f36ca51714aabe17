"""Build an ONNX graph: values with known shapes, and the dozen operators that EfficientDet needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17  # the highest that TensorRT 8's parser reads
# onnxruntime 1.32's GlobalAveragePool adds float32 one by one: a mean of 256x256 cells is off by 5e-4, of 64x64 by
# 2e-5. Larger maps are averaged row by row, at no measurable cost (docs/decisions/0003-fusion-weights.md).
POOL_CELLS = 32 * 32
IR_VERSION = 8  # what onnx 1.12 and TensorRT 8 expect beside opset 17


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name and static shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of an NCHW value."""
        return self.shape[2], self.shape[3]


@dataclass
class GraphBuilder:
    """Collects nodes and constants; every output is named after its node, so that names survive into engines."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)

    def constant(self, name: str, array: np.ndarray | np.generic) -> str:
        """Store a constant under ``name``; the same name twice must hold the same numbers."""
        value = np.asarray(array)
        if not np.array_equal(self.constants.setdefault(name, value), value):
            raise ValueError(f"two different constants are called {name}")
        return name

    def op(self, op_type: str, inputs: list[str], shape: tuple[int, ...], name: str, **attributes: Any) -> Value:
        """Append one node and return its output."""
        if name in self.values:
            raise ValueError(f"two nodes are called {name}")
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        value = Value(name, shape)
        self.values[name] = value
        return value

    def conv(
        self,
        x: Value,
        weight: np.ndarray,
        bias: np.ndarray | None,
        name: str,
        *,
        stride: int = 1,
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        groups: int = 1,
        weight_name: str | None = None,
    ) -> Value:
        """Append a convolution of ``x`` (N, C, H, W) with (O, C / groups, k, k); ``pads`` top, left, bottom, right."""
        kernel = weight.shape[2]
        h, w = ((size + pads[axis] + pads[axis + 2] - kernel) // stride + 1 for axis, size in enumerate(x.size_hw))
        inputs = [x.name, self.constant(weight_name or f"{name}.weight", weight.astype(np.float32))]
        if bias is not None:
            inputs.append(self.constant(f"{name}.bias", bias.astype(np.float32)))
        return self.op(
            "Conv",
            inputs,
            (x.shape[0], weight.shape[0], h, w),
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=list(pads),
            group=groups,
        )

    def activation(self, x: Value, kind: str) -> Value:
        """Append a swish as Sigmoid and Mul, or a ReLU6 as Clip; its name begins with that of its input."""
        if kind == "relu6":
            low, high = self.constant("zero", np.float32(0)), self.constant("six", np.float32(6))
            return self.op("Clip", [x.name, low, high], x.shape, f"{x.name}.relu6")
        gate = self.op("Sigmoid", [x.name], x.shape, f"{x.name}.sigmoid")
        return self.op("Mul", [x.name, gate.name], x.shape, f"{x.name}.swish")

    def scaled(self, x: Value, factor: float, name: str) -> Value:
        """Append a multiplication by a constant; return ``x`` itself for a factor of 1."""
        if factor == 1.0:
            return x
        return self.op("Mul", [x.name, self.constant(f"{name}.factor", np.float32(factor))], x.shape, name)

    def mean(self, x: Value, name: str) -> Value:
        """Append a mean over height and width, (N, C, 1, 1)."""
        h, w = x.size_hw
        if h * w <= POOL_CELLS:
            return self.op("GlobalAveragePool", [x.name], (*x.shape[:2], 1, 1), name)
        rows = self.op("ReduceMean", [x.name], (*x.shape[:3], 1), f"{name}.rows", axes=[3], keepdims=1)
        return self.op("ReduceMean", [rows.name], (*x.shape[:2], 1, 1), name, axes=[2], keepdims=1)

    def zero_padded(self, x: Value, pads: tuple[int, int, int, int], name: str) -> Value:
        """Append zeros at the top, left, bottom and right."""
        top, left, bottom, right = pads
        h, w = x.size_hw
        amounts = self.constant(f"{name}.amounts", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
        return self.op("Pad", [x.name, amounts], (*x.shape[:2], h + top + bottom, w + left + right), name)

    def max_pool(
        self, x: Value, kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int], name: str
    ) -> Value:
        """Append a max-pool; ``pads`` (top, left, bottom, right) are never the maximum."""
        h, w = (
            (size + pads[axis] + pads[axis + 2] - kernel[axis]) // stride[axis] + 1
            for axis, size in enumerate(x.size_hw)
        )
        shape = (*x.shape[:2], h, w)
        return self.op(
            "MaxPool", [x.name], shape, name, kernel_shape=list(kernel), strides=list(stride), pads=list(pads)
        )

    def nearest(self, x: Value, size_hw: tuple[int, int], name: str) -> Value:
        """Append nearest-neighbour upsampling to an exact size: source index = floor(target index * in / out)."""
        sizes = self.constant(f"{name}.sizes", np.array([*x.shape[:2], *size_hw], np.int64))
        return self.op(
            "Resize",
            [x.name, "", "", sizes],
            (*x.shape[:2], *size_hw),
            name,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def model(self, inputs: list[tuple[Value, int]], outputs: list[Value], metadata: dict[str, str]) -> onnx.ModelProto:
        """Return the model, checked by onnx; ``inputs`` have their TensorProto types, everything else is float32."""
        output_names = {value.name for value in outputs}
        graph = helper.make_graph(
            self.nodes,
            "edgedet",
            [helper.make_tensor_value_info(value.name, kind, value.shape) for value, kind in inputs],
            [helper.make_tensor_value_info(value.name, TensorProto.FLOAT, value.shape) for value in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
            value_info=[
                helper.make_tensor_value_info(value.name, TensorProto.FLOAT, value.shape)
                for value in self.values.values()
                if value.name not in output_names
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="edgedet")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model
