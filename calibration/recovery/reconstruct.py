"""Round the weights of a layer together, so that the layer's outputs change least.

This goes layer by layer from the first: a layer's inputs come from the INT8 network so far, and each column of weights
is rounded in turn, while the columns that are still float compensate for its error (GPTQ: Frantar et al., arXiv
2210.17323, Algorithm 1, without its blocks; the objective is AdaRound's, Nagel et al., arXiv 2004.10568, equation 21).
Scales stay as they are. The mean error that is left goes into the biases, as in ``recover``.
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
    find_quantised_inputs,
)
from edgedet.calibration.ranges.choose import fake_quantise
from edgedet.progress import with_progress

POSITIONS = 8192  # of a layer's map, over all frames, at which its outputs are compared
DAMPING = 0.01  # share of the mean diagonal that is added to it, as GPTQ's percdamp


@torch.inference_mode()
def reconstruct_weights(executor: Executor, plan: DensePlan | SparsePlan, pixels: np.ndarray) -> DensePlan | SparsePlan:
    """Return the plan with weights that are rounded for their layers' outputs.

    pixels: (N, H, W, 3) uint8 calibration frames.
    The stem of the dense plan stays as it is, because its bias holds the mean's subtraction.
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
            for position in find_quantised_inputs(node, plan):
                inputs[position] = fake_quantise(inputs[position], plan.tensors[node.input[position]])
        if node.name in convs:
            if not (is_dense and node.name == stem):
                convs[node.name] = _reconstruct_conv(node, attributes, inputs, convs[node.name], random)
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


def _reconstruct_conv(
    node: onnx.NodeProto, attributes: Mapping[str, Any], inputs: list[Any], q: QuantisedConv, random: torch.Generator
) -> QuantisedConv:
    x, weight = inputs[0], inputs[1]
    groups = attributes["group"]
    columns = _sample_columns(x, weight.shape, attributes, random).double()
    rows = weight.reshape(groups, len(weight) // groups, -1).double()
    columns = columns.reshape(groups, rows.shape[2], -1)
    scales = torch.from_numpy(q.scales).double().reshape(groups, -1)
    integers = round_columns(rows, columns @ columns.transpose(1, 2), scales)
    rounded = QuantisedConv(integers.reshape(weight.shape).to(torch.int8).numpy(), q.scales, None)
    difference = weight - dequantise(rounded)[0]
    error = compute(node, [x, difference], attributes).mean((0, 2, 3))
    bias = error if len(inputs) < 3 or inputs[2] is None else inputs[2] + error
    return replace(rounded, bias=bias.float().numpy())


def _sample_columns(x: Tensor, shape: Any, attributes: Mapping[str, Any], random: torch.Generator) -> Tensor:
    """Return the inputs that a convolution multiplies by its weights at n positions: (input channels x kernel, n)."""
    top, left, bottom, right = attributes["pads"]
    count = max(1, POSITIONS // len(x))
    columns = []
    for frame in x:
        padded = F.pad(frame[None], (left, right, top, bottom))
        unfolded = F.unfold(padded, tuple(shape[2:]), stride=tuple(attributes["strides"]))[0]
        columns.append(unfolded[:, torch.randperm(unfolded.shape[1], generator=random)[:count]])
    return torch.cat(columns, 1)


def round_columns(weight: Tensor, moments: Tensor, scales: Tensor) -> Tensor:
    """Round weights to integers whose products with the inputs stay close to those of the weights.

    weight:  (groups, outputs, inputs) float64.
    moments: (groups, inputs, inputs), the inputs' products summed over positions.
    scales:  (groups, outputs).
    """
    weight, n = weight.clone(), weight.shape[2]
    damping = DAMPING * moments.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(torch.float64).tiny ** 0.5)
    damped = moments + damping[:, None, None] * torch.eye(n, dtype=moments.dtype)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper = torch.linalg.cholesky(inverse, upper=True)
    integers = torch.zeros_like(weight)
    for i in range(n):
        column = weight[:, :, i]
        integers[:, :, i] = (column / scales).round().clamp(-INT8_MAX, INT8_MAX)
        error = (column - integers[:, :, i] * scales) / upper[:, i, i, None]
        weight[:, :, i + 1 :] -= error[:, :, None] * upper[:, i, None, i + 1 :]
    return integers
