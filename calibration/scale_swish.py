"""Give each channel of a swish an INT8 step of its own size. Knows the fused graph; knows no quantiser.

The channels of EfficientNet's first stages differ a hundredfold in range, and one INT8 scale must serve them all.
Behind a linear operator a channel can be scaled at will, but a swish x * sigmoid(x) is not linear. Written as
``scaled * sigmoid(factors * scaled)`` it is linear in its first operand: the convolution computes ``scaled`` = x /
factors (in its weights), a small Mul restores x for the sigmoid alone, which needs no more than [-8, 8], and what reads
the product takes the factors into its weights. Exact in floats.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor

from edgedet.calibration.executor import Executor
from edgedet.calibration.plan import INT8_MAX, initializers

SCALED = ".scaled"
FACTORS = ".factors"
UNSCALED = ".unscaled"
# Where channels differ most, and a Mul of each value is still cheap; with these three of D0 the logits' error falls
# from 0.155 to 0.116, with all swishes of the backbone no further (docs/int8.md).
WORTH_A_MUL = re.compile(r"backbone\.(conv_stem|blocks\.0\.\d+\.conv_dw|blocks\.1\.0\.conv_dw)")
# Channels that are mostly below zero give next to nothing behind the swish, but before it they reach to -8 and beyond:
# divided by a small factor they would widen the range for all. Of 0.12, 0.25 and 0.5 the best.
SMALLEST_FACTOR = 0.25
TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Swish:
    """One swish that can be scaled.

    conv:    name of the convolution before it.
    tensors: values that become scaled, in the order of the graph.
    readers: convolutions that take the factors into their weights; "depthwise" or pointwise.
    """

    conv: str
    tensors: tuple[str, ...]
    readers: tuple[str, ...]


def swishes(nodes: Iterable[onnx.NodeProto]) -> dict[str, Swish]:
    """Return, by convolution, each swish that only linear operators read, a squeeze-excite's product included."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    nodes = list(nodes)
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for conv in nodes:
        following = readers.get(conv.output[0], [])
        if conv.op_type != "Conv" or sorted(node.op_type for node in following) != ["Mul", "Sigmoid"]:
            continue
        product = next(node for node in following if node.op_type == "Mul")
        if product.output[0] != f"{conv.output[0]}.swish":
            continue
        tensors, convs, waiting = [], [], [product.output[0]]
        while waiting:
            name = waiting.pop(0)
            tensors.append(name)
            for node in readers.get(name, []):
                if node.op_type == "Conv":
                    convs.append(node.name)
                elif node.op_type in ("ReduceMean", "GlobalAveragePool", "Mul"):
                    waiting.append(node.output[0])
                else:
                    convs.append("")  # not linear, or joined with others: stays as it is
        if all(convs):
            found[conv.name] = Swish(conv.name, tuple(tensors), tuple(convs))
    return found


def scaled_name(tensor: str) -> str:
    """Return the scaled form's name; the first half of a mean stays recognisable as one."""
    stem, is_half = tensor.removesuffix(".rows"), tensor.endswith(".rows")
    return f"{stem}{SCALED}.rows" if is_half else f"{stem}{SCALED}"


def factors_for(executor: Executor, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the factors (C,) float32 in [SMALLEST_FACTOR, 1] of each convolution whose swish is worth a Mul.

    pixels: (N, H, W, 3) uint8 calibration frames. Factors are multiples of 1 / 127, exact as INT8 constants.
    """
    known = swishes(executor.nodes)
    products = {f"{name}.swish": name for name in known if WORTH_A_MUL.fullmatch(name)}
    rms: dict[str, np.ndarray] = {}

    def note(node: onnx.NodeProto, value: Tensor) -> Tensor:
        if node.output[0] in products:
            rms[products[node.output[0]]] = value.square().mean((0, 2, 3)).sqrt().numpy()
        return value

    if products:
        executor.run(pixels, note)
    shares = {name: np.maximum(values / max(values.max(), TINY), SMALLEST_FACTOR) for name, values in rms.items()}
    return {
        name: (np.rint(share / share.max() * INT8_MAX) / INT8_MAX).astype(np.float32) for name, share in shares.items()
    }


def scaled_graph(model: onnx.ModelProto, factors: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Return the equivalent graph in which the swish behind each named convolution is scaled."""
    known = swishes(model.graph.node)
    constants = {name: array.copy() for name, array in initializers(model).items()}
    renamed: dict[str, str] = {}
    gain_of_reader: dict[str, np.ndarray] = {}
    for name, values in factors.items():
        renamed.update({tensor: scaled_name(tensor) for tensor in known[name].tensors})
        gain_of_reader.update(dict.fromkeys(known[name].readers, values))
    nodes: list[onnx.NodeProto] = []
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        swish_of = original.output[0].removesuffix(".swish")
        if original.op_type == "Mul" and swish_of in factors and original.output[0] != swish_of:
            node.input[:] = [f"{swish_of}{SCALED}" if name == swish_of else name for name in node.input]
        elif original.op_type == "Sigmoid" and original.input[0] in factors:
            node.input[0] = f"{original.input[0]}{UNSCALED}"
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type == "Conv":
            _scale_conv(node, constants, gain_of_reader.get(node.name), factors.get(node.name))
        nodes.append(node)
        if node.output[0] in renamed:
            node.output[0] = node.name = renamed[node.output[0]]
        if original.name in factors:
            name = original.output[0]
            node.output[0] = node.name = f"{name}{SCALED}"
            constants[f"{name}{FACTORS}"] = factors[original.name].reshape(1, -1, 1, 1)
            inputs, output = [node.output[0], f"{name}{FACTORS}"], f"{name}{UNSCALED}"
            nodes.append(helper.make_node("Mul", inputs, [output], name=output))
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
    result.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    result.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in constants.items() if name in used
    )
    return onnx.shape_inference.infer_shapes(result, strict_mode=True)


def _scale_conv(
    node: onnx.NodeProto, constants: dict[str, np.ndarray], gain: np.ndarray | None, divisor: np.ndarray | None
) -> None:
    """Multiply a convolution's input channels by ``gain`` and divide its output channels by ``divisor``."""
    weight = constants[node.input[1]]
    if gain is None and divisor is None:
        return
    if gain is not None:
        depthwise = weight.shape[1] == 1 and len(gain) == len(weight)
        weight = weight * (gain.reshape(-1, 1, 1, 1) if depthwise else gain.reshape(1, -1, 1, 1))
    if divisor is not None:
        weight = weight / divisor.reshape(-1, 1, 1, 1)
        if len(node.input) > 2:
            node.input[2] = _renamed(constants, node.input[2], node.name, constants[node.input[2]] / divisor)
    node.input[1] = _renamed(constants, node.input[1], node.name, weight)


def _renamed(constants: dict[str, np.ndarray], old: str, node_name: str, array: np.ndarray) -> str:
    name = f"{old}{SCALED}.{node_name}"
    constants[name] = array.astype(np.float32)
    return name
