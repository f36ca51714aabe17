"""Plan the quantisation of a graph: which tensor gets which scale, and the integers of each convolution.

Dense placement: every tensor of the graph is an INT8 tensor, by the rules of TensorFlow Lite's INT8 specification
(asymmetric activations, per-channel symmetric weights, logistic output 1/256 and -128, equal scales through pool,
resize and reshape). Sparse placement: only what TensorRT fuses with a convolution or a sum is quantised, symmetric.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import numpy_helper

from edgedet.calibration.placement.table import CalibrationTable
from edgedet.calibration.placement.ties import find_exact_mean_scale, find_untied_scale
from edgedet.errors import InputError
from edgedet.specs import DetectorSpec

LOGISTIC_SCALE, LOGISTIC_ZERO = 1.0 / 256.0, -128  # fixed by TensorFlow Lite's INT8 specification
INT8_MIN, INT8_MAX = -128, 127
SMALLEST_SCALE = 1e-8  # a dead tensor (range zero) still needs a positive scale
SAME_SCALE = ("Pad", "MaxPool", "Resize", "Reshape", "Transpose", "Concat")  # integers pass; a Pad's 0 is exact
MEANS = ("GlobalAveragePool", "ReduceMean")
CENTRED = "pixels.centred"
# levels of a convolution's output for one level of its input times one of its weights: XNNPACK refuses 256
MOST_LEVELS = 255.0
RELU6_LIMITS = (0.0, 6.0)


@dataclass(frozen=True)
class QuantParams:
    """real = scale x (integer - zero_point), integer in [-128, 127]."""

    scale: float
    zero_point: int


@dataclass(frozen=True, eq=False)
class QuantisedConv:
    """A convolution's integers: weight (O, I, k, k) int8, scales (O,) float32, bias (O,) float32 or None."""

    weight: np.ndarray
    scales: np.ndarray
    bias: np.ndarray | None


@dataclass(frozen=True, eq=False)
class DensePlan:
    """Everything that a writer of full-INT8 graphs needs beside the float graph.

    tensors: for each tensor from "pixels.centred" to the prediction convolutions' outputs, but for what a ReLU6 that
             is part of the operator reads (``find_fused_clips``).
    convs:   for each INT8 Conv node, by its name.
    floats:  names of the nodes that stay float (``revert``); what they pass on among themselves has no scale.
    """

    tensors: Mapping[str, QuantParams]
    convs: Mapping[str, QuantisedConv] = field(default_factory=dict)
    floats: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class SparsePlan:
    """What a writer of Q/DQ graphs for TensorRT needs beside the float graph.

    tensors: for each value that is quantised where a convolution or a sum reads it; symmetric.
    convs:   for each quantised Conv node, by its name.
    sums:    for each Add node whose inputs are quantised, by its name: which of them.
    """

    tensors: Mapping[str, QuantParams]
    convs: Mapping[str, QuantisedConv]
    sums: Mapping[str, tuple[int, ...]]


def params_from_range(low: float, high: float) -> QuantParams:
    """Return the parameters that cover [low, high] and zero, with zero exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / (INT8_MAX - INT8_MIN), SMALLEST_SCALE)
    return QuantParams(scale, min(max(round(INT8_MIN - low / scale), INT8_MIN), INT8_MAX))


def params_from_magnitude(magnitude: float) -> QuantParams:
    """Return the parameters that cover [-magnitude, magnitude]; zero point 0."""
    return QuantParams(max(magnitude / INT8_MAX, SMALLEST_SCALE), 0)


def quantise_conv(weight: np.ndarray, bias: np.ndarray | None) -> QuantisedConv:
    """Round a convolution's weights per output channel, symmetric in [-127, 127]."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scales = np.maximum(largest / INT8_MAX, SMALLEST_SCALE).astype(np.float32)
    integers = np.clip(np.rint(weight / scales[:, None, None, None]), -INT8_MAX, INT8_MAX)
    return QuantisedConv(integers.astype(np.int8), scales, None if bias is None else bias.astype(np.float32))


def quantise_factor(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Round what a tensor is multiplied with, symmetric; return (integers int8, scale)."""
    scale = params_from_magnitude(float(np.abs(values).max())).scale
    return np.rint(values / scale).astype(np.int8), scale


def read_initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the graph's constants by name."""
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def read_conv_constants(
    node: onnx.NodeProto, constants: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a Conv node's float weight and bias."""
    return constants[node.input[1]], constants[node.input[2]] if len(node.input) > 2 else None


def read_clip_limits(node: onnx.NodeProto, constants: Mapping[str, np.ndarray]) -> tuple[float, float] | None:
    """Return (low, high) of a Clip whose limits are constants."""
    if len(node.input) != 3 or any(name not in constants for name in node.input[1:]):
        return None
    return float(constants[node.input[1]]), float(constants[node.input[2]])


def find_fused_clips(graph: onnx.GraphProto, constants: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return value -> output of the ReLU6 that alone reads it, where TFLite's operator writes that at once."""
    readers = Counter(name for node in graph.node for name in node.input)
    fusing = {node.output[0] for node in graph.node if node.op_type in ("Conv", "Add")}
    return {
        node.input[0]: node.output[0]
        for node in graph.node
        if node.op_type == "Clip"
        and node.input[0] in fusing
        and readers[node.input[0]] == 1
        and read_clip_limits(node, constants) == RELU6_LIMITS
    }


def choose_centre(spec: DetectorSpec) -> int:
    """Return the byte that stands for zero at the network's input.

    One integer for all channels, because an INT8 tensor has one zero point: the convolution then pads borders with it.
    What the channels' means differ from it goes into the stem's bias.
    """
    return int(round(255.0 * sum(spec.mean_rgb) / 3.0))


def make_dense_plan(model: onnx.ModelProto, spec: DetectorSpec, table: CalibrationTable) -> DensePlan:
    """Give every tensor its scale and every convolution its integers.

    The camera's bytes are the first INT8 tensor (scale 1); the mean's subtraction becomes its zero point and a term of
    the stem's bias. Raises KeyError where the table lacks a tensor of the graph.
    """
    constants = read_initializers(model)
    tensors: dict[str, QuantParams] = {CENTRED: QuantParams(1.0, choose_centre(spec) + INT8_MIN)}
    convs: dict[str, QuantisedConv] = {}
    before_relu6 = find_fused_clips(model.graph, constants)
    whole: dict[str, str] = {}
    least: dict[str, float] = {}  # smallest scale that a convolution's output may have
    cells = {
        value.name: math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim[2:])
        for value in model.graph.value_info
    }
    for node in model.graph.node:
        name = node.output[0]
        if node.op_type == "Conv":
            convs[name] = conv = quantise_conv(*read_conv_constants(node, constants))
            largest = tensors[node.input[0]].scale * float(conv.scales.max())
            least[before_relu6.get(name, name)] = largest / MOST_LEVELS
        if name in before_relu6:
            continue  # never rounded: the ReLU6 is part of the operator
        if name in tensors or node.op_type in ("Cast", "Concat"):
            continue
        if name.endswith(".rows"):
            whole[name] = node.input[0]  # the first half of a mean that is one operator in INT8
            continue
        if node.op_type == "Sigmoid":
            tensors[name] = QuantParams(LOGISTIC_SCALE, LOGISTIC_ZERO)
        elif node.op_type in SAME_SCALE:
            if node.input[0] in tensors:
                tensors[name] = tensors[node.input[0]]
        elif node.op_type == "Mul":
            factors = [_factor(value, tensors, constants) for value in node.input]
            tensors[name] = _untied(params_from_range(*table.ranges[name]), *factors)
        elif node.op_type in MEANS:
            source, to = whole.get(node.input[0], node.input[0]), params_from_range(*table.ranges[name])
            tensors[name] = replace(to, scale=find_exact_mean_scale(to.scale, tensors[source].scale, cells[source]))
        else:
            to = params_from_range(*table.ranges[name])
            tensors[name] = replace(to, scale=max(to.scale, least.get(name, 0.0)))
    stem = next(node for node in model.graph.node if node.op_type == "Conv")
    shift_bgr = choose_centre(spec) - 255.0 * np.asarray(spec.mean_rgb[::-1])
    q = convs[stem.output[0]]
    moved = (q.weight * q.scales[:, None, None, None].astype(np.float64)).sum((2, 3)) @ shift_bgr
    bias = moved if q.bias is None else q.bias + moved
    convs[stem.output[0]] = QuantisedConv(q.weight, q.scales, bias.astype(np.float32))
    return DensePlan(tensors, convs)


def _factor(
    name: str, tensors: Mapping[str, QuantParams], constants: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, float]:
    """Return all that a Mul may read from an input: integers less the zero point, and their scale."""
    if name in constants:
        return quantise_factor(constants[name])
    return np.arange(INT8_MIN, INT8_MAX + 1) - tensors[name].zero_point, tensors[name].scale


def _untied(to: QuantParams, a: tuple[np.ndarray, float], b: tuple[np.ndarray, float]) -> QuantParams:
    """Return a Mul's output parameters, the scale moved by some 1e-7 where CPUs would round a product differently."""
    products = _list_distinct(np.outer(a[0].astype(np.int32), b[0].astype(np.int32)))
    return replace(to, scale=find_untied_scale(to.scale, to.zero_point, np.float32(a[1]) * np.float32(b[1]), products))


def _list_distinct(integers: np.ndarray) -> np.ndarray:
    """Return the values of an integer array in rising order, once each; faster than np.unique, for a narrow range."""
    low = integers.min()
    there = np.zeros(integers.max() - low + 1, dtype=bool)
    there[integers - low] = True
    return (np.flatnonzero(there) + low).astype(integers.dtype)


# What can be kept float, by the name of the switch.
OP_CLASSES: dict[str, Callable[[onnx.NodeProto], bool]] = {
    "stem": lambda node: node.name == "backbone.conv_stem",
    "depthwise": lambda node: ".conv_dw" in node.name and node.op_type == "Conv",
    "backbone_depthwise": lambda node: node.name.startswith("backbone.") and OP_CLASSES["depthwise"](node),
    "se": lambda node: ".se." in node.name,
    "fpn": lambda node: node.name.startswith("fpn."),
    "heads": lambda node: node.name.startswith(("class_net.", "box_net.")),
}


def check_keep_float(model: onnx.ModelProto, keep_float: Collection[str]) -> None:
    """Raise InputError where a name is neither a class of OP_CLASSES nor a convolution of the graph."""
    layers = {node.name for node in model.graph.node if node.op_type == "Conv"}
    _refuse_unknown(name for name in keep_float if name not in OP_CLASSES and name not in layers)


def check_keep_float_words(keep_float: Collection[str]) -> None:
    """Raise InputError where a name can be neither, before there is a graph: layers' names have dots in them."""
    _refuse_unknown(name for name in keep_float if name not in OP_CLASSES and "." not in name)


def _refuse_unknown(names: Iterable[str]) -> None:
    for name in names:
        raise InputError(
            f"--keep-float takes {', '.join(OP_CLASSES)}, or layers as edgedet sensitivity names them; got {name!r}."
        )


def make_sparse_plan(
    model: onnx.ModelProto, table: CalibrationTable, keep_float: Collection[str] = ("se",)
) -> SparsePlan:
    """Quantise the inputs of convolutions and sums, symmetric; what ``keep_float`` names stays float.

    keep_float: classes of OP_CLASSES, or nodes by their names.

    Nothing stands between a convolution and its swish, and nothing between a convolution and the sum that alone reads
    it: TensorRT computes the two at once, and only the other input, the skip branch, is quantised (its Developer Guide,
    "Q/DQ Layer-Placement Recommendations"). Raises KeyError where the table lacks a tensor.
    """
    constants = read_initializers(model)
    source = {node.output[0]: node for node in model.graph.node}

    def magnitude_of(name: str) -> float:
        while name not in table.magnitudes:  # pools, resizes and transposes have the range of what they move
            name = source[name].input[0]
        return table.magnitudes[name]

    kept = [OP_CLASSES[name] for name in keep_float if name in OP_CLASSES]
    nodes = [
        node for node in model.graph.node if node.name not in keep_float and not any(is_kept(node) for is_kept in kept)
    ]
    convs = {
        node.name: quantise_conv(*read_conv_constants(node, constants)) for node in nodes if node.op_type == "Conv"
    }
    readers = Counter(name for node in model.graph.node for name in node.input)
    alone = {name for name, node in source.items() if node.op_type == "Conv" and readers[name] == 1}
    sums = {node.name: _rounded_inputs(node, alone) for node in nodes if node.op_type == "Add"}
    read = [node.input[0] for node in nodes if node.name in convs]
    read += [node.input[index] for node in nodes for index in sums.get(node.name, ())]
    return SparsePlan({name: params_from_magnitude(magnitude_of(name)) for name in read}, convs, sums)


def _rounded_inputs(node: onnx.NodeProto, fused: Collection[str]) -> tuple[int, ...]:
    """Return the inputs of a sum that are rounded: all but the last one that is computed together with the sum."""
    beside = [index for index, name in enumerate(node.input) if name in fused][-1:]
    return tuple(index for index in range(len(node.input)) if index not in beside)


def find_quantised_inputs(node: onnx.NodeProto, plan: SparsePlan) -> tuple[int, ...]:
    """Return the indices of a node's inputs that are quantised."""
    if node.name in plan.convs:
        return (0,)
    return plan.sums.get(node.name, ())
