"""Write the parser's network as ONNX again, layer by layer, so that onnxruntime can compute what the parser understood.

Each layer becomes the ONNX operators that compute what NvInfer.h documents for its settings. Nothing is taken from the
file that was parsed. So equal outputs mean that padding, rounding, axes and weights arrived as they were meant.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedet.errors import UnsupportedError

from .parsed import DTYPES, LAYERS, Parsed

# the operators of nvinfer1's enumerations, by number
ACTIVATIONS, CLIP = {0: "Relu", 1: "Sigmoid", 2: "Tanh"}, 8
ELEMENTWISE = ("Add", "Mul", "Max", "Min", "Sub", "Div", "Pow", None, "And", "Or", "Xor", "Equal", "Greater", "Less")
UNARY = {0: "Exp", 1: "Log", 2: "Sqrt", 3: "Reciprocal", 4: "Abs", 5: "Neg", 17: "Ceil", 18: "Floor", 20: "Not"}
REDUCE = ("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceMean")
TRANSFORMATIONS = ("align_corners", "asymmetric", "half_pixel")
ROUNDINGS = ("round_prefer_ceil", "round_prefer_floor", "floor", "ceil")
OPSET = 17


def model_from_parsed(parsed: Parsed) -> onnx.ModelProto:
    """Return the network as an ONNX model with the same inputs and outputs.

    Raises UnsupportedError for a layer, or a setting of one, that is not written back.
    """
    writer = _Writer(parsed)
    for layer in parsed.network["layers"]:
        kind = LAYERS[layer["type"]]
        try:
            write = getattr(writer, kind)
        except AttributeError:
            raise UnsupportedError(f"layer {layer['name']} is a {kind}, which is not replayed") from None
        write(layer, layer["inputs"], layer["outputs"][0]["name"], layer["settings"])
    return writer.model()


class _Writer:
    """One method for each kind of layer: (layer, inputs' names, output's name, settings)."""

    def __init__(self, parsed: Parsed) -> None:
        self._parsed, self._tensors = parsed, parsed.tensors()
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        network = self._parsed.network
        inputs, outputs = (
            [self._value(name) for name in names]
            for names in ([tensor["name"] for tensor in network["inputs"]], network["outputs"])
        )
        graph = helper.make_graph(self._nodes, "replayed", inputs, outputs, self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)

    def _value(self, name: str) -> onnx.ValueInfoProto:
        shape, dtype = self._tensors[name]
        sides = ["batch" if side < 0 else side for side in shape]
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), sides)

    def _weights(self, setting: dict[str, int]) -> np.ndarray:
        dtype = DTYPES[setting["type"]]
        return np.frombuffer(self._parsed.weights, dtype, setting["count"], setting["at"])

    def _constant(self, array: np.ndarray) -> str:
        name = f"replayed.{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _add(self, op: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"replayed.node.{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def _as(self, dtype: Any, name: str, output: str = "") -> str:
        return self._add("Cast", [name], output, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def constant(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        array = self._weights(settings["weights"]).reshape(settings["dimensions"])
        self._constants.append(numpy_helper.from_array(array, output))

    def convolution(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        weights = inputs[1] if len(inputs) > 1 else ""
        if not weights:
            channels = self._tensors[inputs[0]][0][1] // settings["nbGroups"]
            shape = (settings["nbOutputMaps"], channels, *settings["kernelSizeNd"])
            weights = self._constant(self._weights(settings["kernelWeights"]).reshape(shape))
        bias = [self._constant(self._weights(settings["biasWeights"]))] if settings["biasWeights"]["count"] else []
        bias = inputs[2:] or bias
        self._add(
            "Conv",
            [inputs[0], weights, *bias],
            output,
            group=settings["nbGroups"],
            kernel_shape=settings["kernelSizeNd"],
            strides=settings["strideNd"],
            dilations=settings["dilationNd"],
            **_padding(settings),
        )

    def pooling(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        window = {"kernel_shape": settings["windowSizeNd"], "strides": settings["strideNd"], **_padding(settings)}
        window["ceil_mode"] = int(settings["paddingMode"] == 1)
        if settings["poolingType"] == 0:
            self._add("MaxPool", inputs, output, **window)
        else:
            included = int(not settings["averageCountExcludesPadding"])
            self._add("AveragePool", inputs, output, count_include_pad=included, **window)

    def activation(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        if settings["activationType"] == CLIP:
            limits = [self._constant(np.float32(settings[name])) for name in ("alpha", "beta")]
            self._add("Clip", [*inputs, *limits], output)
        else:
            self._add(ACTIVATIONS[settings["activationType"]], inputs, output)

    def concatenation(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        self._add("Concat", inputs, output, axis=settings["axis"])

    def elementwise(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        op = ELEMENTWISE[settings["operation"]]
        if op is None:
            raise UnsupportedError("a floor division")
        self._add(op, inputs, output)

    def unary(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        self._add(UNARY[settings["operation"]], inputs, output)

    def shuffle(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        value = self._transposed(inputs[0], settings["firstTranspose"], len(self._tensors[inputs[0]][0]))
        if len(inputs) > 1 or settings["reshapes"]:
            shape = (
                self._as(np.int64, inputs[1])
                if len(inputs) > 1
                else self._constant(np.array(settings["reshapeDimensions"], np.int64))
            )
            value = self._add("Reshape", [value, shape], allowzero=int(not settings["zeroIsPlaceholder"]))
        value = self._transposed(value, settings["secondTranspose"], len(self._tensors[output][0]))
        self._add("Identity", [value], output)

    def _transposed(self, value: str, order: list[int], rank: int) -> str:
        return value if order[:rank] == list(range(rank)) else self._add("Transpose", [value], perm=order[:rank])

    def reduce(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        rank = len(self._tensors[inputs[0]][0])
        axes = [axis for axis in range(rank) if settings["reduceAxes"] >> axis & 1]
        op, keep = REDUCE[settings["operation"]], int(settings["keepDimensions"])
        if op == "ReduceSum":  # its axes are an input since opset 13
            self._add(op, [inputs[0], self._constant(np.array(axes, np.int64))], output, keepdims=keep)
        else:
            self._add(op, inputs, output, axes=axes, keepdims=keep)

    def topk(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        axis = settings["reduceAxes"].bit_length() - 1
        at = layer["outputs"][1]["name"]
        k = (
            self._add("Reshape", [self._as(np.int64, inputs[1]), self._constant(np.array([1], np.int64))])
            if len(inputs) > 1
            else self._constant(np.array([settings["k"]], np.int64))
        )
        names = [output, f"{at}.int64"]
        self._nodes.append(
            helper.make_node("TopK", [inputs[0], k], names, axis=axis, largest=int(settings["operation"] == 0))
        )
        self._as(np.int32, names[1], at)

    def gather(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        if settings["mode"] == 0:
            self._add("Gather", inputs, output, axis=settings["gatherAxis"])
        else:
            indices = self._as(np.int64, inputs[1])
            self._add("GatherND", [inputs[0], indices], output, batch_dims=settings["nbElementWiseDims"])

    def identity(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        self._as(self._tensors[output][1], inputs[0], output)  # setOutputType makes it a cast

    cast = identity

    def slice(self, layer: dict, inputs: list[str | None], output: str, settings: dict) -> None:
        if settings["mode"] != 0 or any(stride < 0 for stride in settings["stride"]):
            raise UnsupportedError("a slice that goes back, or beyond its input")
        start, size, stride = (
            self._as(np.int64, inputs[at])
            if len(inputs) > at and inputs[at]
            else self._constant(np.array(settings[name], np.int64))
            for at, name in enumerate(("start", "size", "stride"), 1)
        )
        ends = self._add("Add", [start, self._add("Mul", [size, stride])])
        axes = self._constant(np.arange(len(self._tensors[inputs[0]][0])))
        self._add("Slice", [inputs[0], start, ends, axes, stride], output)

    def nms(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        """Boxes that TensorRT would not look at, beyond ``topKBoxLimit``, are looked at here."""
        by_class = self._add("Transpose", [inputs[1]], perm=[0, 2, 1])
        most = self._as(np.int64, inputs[2])
        centred = settings["boundingBoxFormat"]
        chosen = self._add("NonMaxSuppression", [inputs[0], by_class, most, *inputs[3:]], center_point_box=centred)
        self._as(np.int32, chosen, output)

    def shape(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        self._as(np.int32, self._add("Shape", inputs), output)

    def resize(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        if settings["resizeMode"] != 0:
            raise UnsupportedError("a resize that is not to the nearest")
        to = (
            ["", self._as(np.int64, inputs[1])]
            if len(inputs) > 1
            else [self._constant(np.array(settings["scales"], np.float32))]
        )
        self._add(
            "Resize",
            [inputs[0], "", *to],
            output,
            mode="nearest",
            coordinate_transformation_mode=TRANSFORMATIONS[settings["coordinateTransformation"]],
            nearest_mode=ROUNDINGS[settings["nearestRounding"]],
        )

    def quantize(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        self._quantiser("QuantizeLinear", inputs, output, settings)

    def dequantize(self, layer: dict, inputs: list[str], output: str, settings: dict) -> None:
        self._quantiser("DequantizeLinear", inputs, output, settings)

    def _quantiser(self, op: str, inputs: list[str], output: str, settings: dict) -> None:
        """The zero points are zero in TensorRT, whatever the third input is."""
        shape = self._tensors[inputs[1]][0]
        zero = self._constant(np.zeros(shape, np.int8))
        axis = {"axis": settings["axis"]} if shape not in ((), (1,)) else {}
        self._add(op, [inputs[0], inputs[1], zero], output, **axis)


def _padding(settings: dict) -> dict[str, Any]:
    if settings["paddingMode"] == 2:
        return {"auto_pad": "SAME_UPPER"}
    if settings["paddingMode"] > 1:
        raise UnsupportedError(f"padding mode {settings['paddingMode']}")
    return {"pads": settings["prePadding"] + settings["postPadding"]}
