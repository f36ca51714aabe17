"""Equalisation and bias correction: they recover accuracy that rounding loses, without labels and without training.

Equalisation scales the channels of a depthwise convolution so that one INT8 scale suits them all, and undoes that in
the pointwise convolution behind it (Nagel et al., arXiv 1906.04721 section 4.1). This is exact only where no activation
stands between the two: in the BiFPN and the heads.
Bias correction adds to each output channel's bias the mean error that rounded weights cause there (section 4.2), from
the first convolution to the last. Activations are not rounded meanwhile: clipping shifts means on purpose, and to
correct for it was worse than no correction (docs/int8.md).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper
from torch import Tensor

from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.placement.plan import (
    CENTRED,
    INT8_MIN,
    DensePlan,
    QuantisedConv,
    SparsePlan,
    read_initializers,
)

# How much of the difference between channels moves into the pointwise weights: 0 keeps the depthwise outputs as they
# are, 1 gives them all the same range. Of 0, 0.5 and 0.8 the last is the best for both placements.
STRENGTH = 0.8
SMALLEST_RANGE = 1e-6


def equalise(model: onnx.ModelProto, pixels: np.ndarray) -> onnx.ModelProto:
    """Return an equivalent float graph in which the ranges of a depthwise convolution's channels differ less.

    pixels: (N, H, W, 3) uint8 calibration frames.
    """
    pairs = _find_depthwise_pointwise(model)
    ranges: dict[str, Tensor] = {}

    def visit(node: onnx.NodeProto, value: Tensor) -> Tensor:
        if node.name in pairs:
            ranges[node.name] = value.abs().amax((0, 2, 3))
        return value

    Executor(model).run(pixels, visit)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = read_initializers(model)
    # Levels share a head's depthwise weights; each gets its own, because its values have ranges of their own.
    for node in result.graph.node:
        if node.name not in pairs:
            continue
        widest = ranges[node.name].clamp_min(SMALLEST_RANGE).numpy()
        factors = (widest / widest.max()) ** STRENGTH
        depthwise = constants[node.input[1]] / factors[:, None, None, None]
        node.input[1] = f"{node.name}.weight.equalised"
        constants[node.input[1]] = depthwise
        pointwise = pairs[node.name].input[1]  # read by this one node
        constants[pointwise] = constants[pointwise] * factors[None, :, None, None]
    used = {name for node in result.graph.node for name in node.input}
    del result.graph.initializer[:]
    result.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in constants.items() if name in used
    )
    return result


def _find_depthwise_pointwise(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Return, by a depthwise node's name, the pointwise node that reads its output directly and alone."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    constants = read_initializers(model)
    pairs = {}
    for node in model.graph.node:
        if node.op_type != "Conv" or len(node.input) > 2 or constants[node.input[1]].shape[1] != 1:
            continue  # a bias would have to be scaled, too; these convolutions have none
        following = readers[node.output[0]]
        if len(following) == 1 and following[0].op_type == "Conv" and len(readers[following[0].input[1]]) == 1:
            pairs[node.name] = following[0]
    return pairs


def correct_biases(executor: Executor, plan: DensePlan | SparsePlan, pixels: np.ndarray) -> DensePlan | SparsePlan:
    """Return the plan with corrected biases; ``pixels`` (N, H, W, 3) uint8 calibration frames."""
    means: dict[str, Tensor] = {}
    convs = dict(plan.convs)
    centre = plan.tensors[CENTRED].zero_point - INT8_MIN if isinstance(plan, DensePlan) else None

    def note(node: onnx.NodeProto, value: Tensor) -> Tensor:
        if node.name in convs:
            means[node.name] = value.mean((0, 2, 3))
        return value

    def correct(node: onnx.NodeProto, value: Tensor) -> Tensor:
        if node.output[0] == CENTRED and centre is not None:
            return value + executor.constants["mean_bgr"] - centre  # the dense plan's stem counts bytes from its centre
        if node.name not in convs:
            return value
        q, error = convs[node.name], means[node.name] - value.mean((0, 2, 3))
        bias = error.numpy() if q.bias is None else q.bias + error.numpy()
        convs[node.name] = QuantisedConv(q.weight, q.scales, bias.astype(np.float32))
        return value + error[:, None, None]

    executor.run(pixels, note)
    executor.run(pixels, correct, convs=plan.convs)
    return replace(plan, convs=convs)
