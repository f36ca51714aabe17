"""A fused graph as a trainable module that rounds where an INT8 file rounds.

The graph is the one that ``edgedet export`` writes: BatchNorms are folded into the convolutions, so their statistics
are frozen. Where values are rounded, and by which scales, comes from the plan that the writers use, TFLite's dense one
or TensorRT's sparse one; weights are rounded per output channel by their largest magnitude, as ``quantise_conv`` does.
What is trained are the weights and biases; gradients pass a rounding as if it were not there, and stop where a value
is clipped (Jacob et al., arXiv 1712.05877; Bengio et al., arXiv 1308.3432).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edgedet.calibration.graph.executor import OUTPUTS, Executor, compute
from edgedet.calibration.placement.plan import (
    CENTRED,
    INT8_MAX,
    INT8_MIN,
    SAME_SCALE,
    SMALLEST_SCALE,
    DensePlan,
    QuantParams,
    SparsePlan,
    choose_centre,
    find_quantised_inputs,
)
from edgedet.specs import DetectorSpec

SMALLEST_BIAS_SIZE = 0.01  # of the typical bias of a convolution; those that are all 0 learn as if it were this


class FakeQuantised(nn.Module):
    """A fused float graph and the plan by which it is rounded; without a plan, the float graph itself."""

    def __init__(self, model: onnx.ModelProto, spec: DetectorSpec, plan: DensePlan | SparsePlan | None) -> None:
        """Convolutions' weights and biases become parameters, each divided by its root mean square.

        One learning rate then suits all: a stem's weights, which take bytes, are a thousandth of others.
        """
        super().__init__()
        executor = Executor(model)
        self.steps = list(executor.steps())
        self._last_use = {name: at for at, (node, _) in enumerate(self.steps) for name in node.input}
        self.constants = executor.constants
        self.plan = plan
        self.sizes: dict[str, float] = {}
        self.values = nn.ParameterDict()
        for node, _ in self.steps:
            if node.op_type == "Conv":
                for index, name in enumerate(node.input[1:]):
                    self._add(name, executor.constants[name], SMALLEST_BIAS_SIZE if index else SMALLEST_SCALE)
        self._stem = next(node.name for node, _ in self.steps if node.op_type == "Conv")
        centre = choose_centre(spec)
        self.register_buffer("centre", torch.tensor(float(centre)), persistent=False)
        shift = centre - 255.0 * torch.tensor(spec.mean_rgb[::-1])
        self.register_buffer("stem_shift", shift, persistent=False)

    def _add(self, name: str, value: Tensor, smallest: float) -> None:
        if name not in self.sizes:
            self.sizes[name] = max(float(value.square().mean().sqrt()), smallest)
            self.values[_key(name)] = nn.Parameter(value.clone() / self.sizes[name])

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, 3) uint8 BGR -> class logits (N, A, C), box codes (N, A, 4)."""
        values: dict[str, Tensor] = {"pixels": pixels}
        for at, (node, attributes) in enumerate(self.steps):
            values[node.output[0]] = self.compute_node(node, attributes, values)
            for name in node.input:
                if self._last_use[name] == at:
                    values.pop(name, None)
        return values[OUTPUTS[0]], values[OUTPUTS[1]]

    def compute_node(self, node: onnx.NodeProto, attributes: Mapping[str, Any], values: Mapping[str, Tensor]) -> Tensor:
        """Return a node's output, rounded as the plan says, from the values that it reads."""
        inputs = [self._read(name, values) for name in node.input]
        if node.output[0] == CENTRED and isinstance(self.plan, DensePlan):
            return inputs[0] - self.centre  # integers
        return self._round_output(node, compute(node, self._round_inputs(node, inputs), attributes))

    def _round_inputs(self, node: onnx.NodeProto, inputs: list[Any]) -> list[Any]:
        """Return a node's inputs as the plan rounds them: weights, and what a sparse plan's operator reads."""
        plan = self.plan
        if plan is None:
            return inputs
        if isinstance(plan, SparsePlan):
            for index in find_quantised_inputs(node, plan):
                inputs[index] = round_to(inputs[index], plan.tensors[node.input[index]])
        if node.name in plan.convs:
            inputs[1] = round_weight(inputs[1])
            if node.name == self._stem and isinstance(plan, DensePlan):
                moved = inputs[1].sum((2, 3)) @ self.stem_shift
                inputs[2:] = [moved if len(inputs) < 3 else inputs[2] + moved]
        return inputs

    def _round_output(self, node: onnx.NodeProto, value: Tensor) -> Tensor:
        """Return what a dense plan's operator writes."""
        name = node.output[0]
        if not isinstance(self.plan, DensePlan) or name not in self.plan.tensors:
            return value
        if node.op_type in SAME_SCALE and node.input[0] in self.plan.tensors:
            return value
        return round_to(value, self.plan.tensors[name])

    def _read(self, name: str, values: Mapping[str, Tensor]) -> Any:
        if not name:
            return None
        if name in values:
            return values[name]
        if name in self.sizes:
            return self.values[_key(name)] * self.sizes[name]
        return self.constants[name]

    def trained_model(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the float graph that this module was made from with the trained weights."""
        result = onnx.ModelProto()
        result.CopyFrom(model)
        for item in result.graph.initializer:
            if item.name in self.sizes:
                value = (self.values[_key(item.name)].detach() * self.sizes[item.name]).cpu().numpy()
                item.CopyFrom(numpy_helper.from_array(value, item.name))
        return result

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move constants with the parameters."""
        self.constants = {name: fn(value) for name, value in self.constants.items()}
        return super()._apply(fn, recurse)


def _key(name: str) -> str:
    return name.replace(".", "/")  # parameters' names have no dots


def round_to(x: Tensor, q: QuantParams) -> Tensor:
    """Quantise and dequantise; the gradient passes where nothing is clipped."""
    return torch.fake_quantize_per_tensor_affine(x, q.scale, q.zero_point, INT8_MIN, INT8_MAX)


def round_weight(weight: Tensor) -> Tensor:
    """Quantise and dequantise a convolution's weight (O, I, k, k) per output channel, as ``quantise_conv``."""
    largest = weight.detach().abs().reshape(len(weight), -1).amax(1)
    scales = (largest / INT8_MAX).clamp_min(SMALLEST_SCALE)
    zeros = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -INT8_MAX, INT8_MAX)
