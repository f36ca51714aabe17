"""Round weights so that layers' outputs stay, not each weight by itself. Knows the executor and plans; knows no engine.

Layer by layer, from the first: a layer's inputs are taken from the INT8 network so far, and each column of weights is
rounded in turn, its error being made up for by the columns that are still float (GPTQ: Frantar et al., arXiv
2210.17323, Algorithm 1, without its blocks; the step that it refines is AdaRound's, Nagel et al., arXiv 2004.10568,
equation 21). Scales stay. Where weights are rounded otherwise, biases take in the mean error, as in ``recover``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor

from edgedet.calibration.graph.executor import Executor, compute, dequantise
from edgedet.calibration.placement.plan import (
    CENTRED,
    INT8_MAX,
    INT8_MIN,
    SAME_SCALE,
    DensePlan,
    QuantisedConv,
    SparsePlan,
    quantised_input_indices,
)
from edgedet.calibration.ranges.observe import fake_quantise
from edgedet.progress import with_progress

POSITIONS = 8192  # of a layer's map, over all frames, that its outputs are compared at
DAMPING = 0.01  # of the mean diagonal, as GPTQ's percdamp


@torch.inference_mode()
def reconstruct_weights(executor: Executor, plan: DensePlan | SparsePlan, pixels: np.ndarray) -> DensePlan | SparsePlan:
    """Return the plan with weights rounded for their layers' outputs; ``pixels`` (N, H, W, 3) uint8 frames.

    The dense plan's stem stays as it is: its bias holds the mean's subtraction.
    """
    convs = dict(plan.convs)
    is_dense = isinstance(plan, DensePlan)
    stem = next(node.name for node in executor.nodes if node.op_type == "Conv")
    random = torch.Generator().manual_seed(0)
    values: dict[str, Tensor] = {"pixels": torch.from_numpy(pixels)}
    last_use = {name: index for index, node in enumerate(executor.nodes) for name in node.input}
    for index, (node, attributes) in enumerate(with_progress(list(executor.steps()), "rounding", "operator")):
        inputs: list[Any] = [
            values[name] if name in values else executor.constants[name] if name else None for name in node.input
        ]
        if isinstance(plan, SparsePlan):
            for at in quantised_input_indices(node, plan):
                inputs[at] = fake_quantise(inputs[at], plan.tensors[node.input[at]])
        if node.name in convs:
            if not (is_dense and node.name == stem):
                convs[node.name] = _reconstructed(node, attributes, inputs, convs[node.name], random)
            inputs = [inputs[0], *dequantise(convs[node.name])]
        value = compute(node, inputs, attributes)
        name = node.output[0]
        if is_dense and name == CENTRED:
            centre = plan.tensors[CENTRED].zero_point - INT8_MIN
            value = value + executor.constants["mean_bgr"] - centre  # the dense stem counts bytes from their centre
        elif is_dense and name in plan.tensors and node.op_type not in SAME_SCALE:
            value = fake_quantise(value, plan.tensors[name])
        values[name] = value
        for read in node.input:
            if last_use[read] == index:
                values.pop(read, None)
    return replace(plan, convs=convs)


def _reconstructed(
    node: onnx.NodeProto, attributes: Mapping[str, Any], inputs: list[Any], q: QuantisedConv, random: torch.Generator
) -> QuantisedConv:
    x, weight = inputs[0], inputs[1]
    groups = attributes["group"]
    columns = _columns(x, weight.shape, attributes, random).double()
    rows = weight.reshape(groups, len(weight) // groups, -1).double()
    columns = columns.reshape(groups, rows.shape[2], -1)
    scales = torch.from_numpy(q.scales).double().reshape(groups, -1)
    integers = round_columns(rows, columns @ columns.transpose(1, 2), scales)
    made = QuantisedConv(integers.reshape(weight.shape).to(torch.int8).numpy(), q.scales, None)
    difference = weight - dequantise(made)[0]
    error = compute(node, [x, difference], attributes).mean((0, 2, 3))
    bias = error if len(inputs) < 3 or inputs[2] is None else inputs[2] + error
    return replace(made, bias=bias.float().numpy())


def _columns(x: Tensor, shape: Any, attributes: Mapping[str, Any], random: torch.Generator) -> Tensor:
    """Return what a convolution multiplies its weights with at some positions: (input channels x kernel, n)."""
    top, left, bottom, right = attributes["pads"]
    count = max(1, POSITIONS // len(x))
    found = []
    for frame in x:
        padded = F.pad(frame[None], (left, right, top, bottom))
        seen = F.unfold(padded, tuple(shape[2:]), stride=tuple(attributes["strides"]))[0]
        found.append(seen[:, torch.randperm(seen.shape[1], generator=random)[:count]])
    return torch.cat(found, 1)


def round_columns(weight: Tensor, moments: Tensor, scales: Tensor) -> Tensor:
    """Return integers whose products with the inputs stay close to those of the weights.

    weight:  (groups, outputs, inputs) float64.
    moments: (groups, inputs, inputs), the inputs' products summed over positions.
    scales:  (groups, outputs).
    """
    weight, n = weight.clone(), weight.shape[2]
    damping = DAMPING * moments.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(torch.float64).tiny ** 0.5)
    regular = moments + damping[:, None, None] * torch.eye(n, dtype=moments.dtype)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(regular))
    upper = torch.linalg.cholesky(inverse, upper=True)
    integers = torch.zeros_like(weight)
    for at in range(n):
        column = weight[:, :, at]
        integers[:, :, at] = (column / scales).round().clamp(-INT8_MAX, INT8_MAX)
        error = (column - integers[:, :, at] * scales) / upper[:, at, at, None]
        weight[:, :, at + 1 :] -= error[:, :, None] * upper[:, at, None, at + 1 :]
    return integers
