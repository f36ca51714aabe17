"""Edit a parsed TensorRT network: put parts of it back from INT8 to float, or a float one to FP16.

The edits use TensorRT's own network interface, so that a board without an onnx package can try placements.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Set, Tuple

import numpy as np

from ...errors import UnsupportedError

CENTRED = "pixels.centred"  # the output of the mean's subtraction, in every file of edgedet
# Parts that can go back to float, by the names that edgedet gives its ONNX nodes; all but the last as for --keep-float.
PARTS: Dict[str, Callable[[str], bool]] = {
    "stem": lambda name: name == "backbone.conv_stem",
    "depthwise": lambda name: ".conv_dw" in name,
    "fpn": lambda name: name.startswith("fpn."),
    "heads": lambda name: name.startswith(("class_net.", "box_net.")),
    "everything": lambda name: True,
}


def list_layers(network: Any) -> List[Any]:
    """Return all layers in their order."""
    return [network.get_layer(index) for index in range(network.num_layers)]


class Layers:
    """The network's layers, and the layer that computes each tensor."""

    def __init__(self, trt: Any, network: Any) -> None:
        """Read the network as it is now; layers that are added later are not in it."""
        self.trt, self.network = trt, network
        self.layers = list_layers(network)
        self.producers = {
            layer.get_output(index).name: layer for layer in self.layers for index in range(layer.num_outputs)
        }

    def find_producer(self, layer: Any, index: int, kind: Any) -> Any:
        """Return the layer that computes an input; None where there is none or it is not of type ``kind``."""
        tensor = layer.get_input(index) if index < layer.num_inputs else None
        producer = self.producers.get(tensor.name) if tensor is not None else None
        return producer if producer is not None and producer.type == kind else None

    def read_dequantised_weight(self, conv: Any) -> np.ndarray:
        """Return an INT8 convolution's weights (O, I, k, k) in its scales' type; raises as ``constant``."""
        dequantiser = self.find_producer(conv, 1, self.trt.LayerType.DEQUANTIZE)
        if dequantiser is None:
            raise UnsupportedError(f"{conv.name} has no INT8 weights: export the model with edgedet again.")
        quantiser = self.find_producer(dequantiser, 0, self.trt.LayerType.QUANTIZE)
        return _dequantise(self, dequantiser) if quantiser is None else self.constant(quantiser, 0)

    def constant(self, layer: Any, index: int) -> np.ndarray:
        """Return the values of an input that is a constant; raises UnsupportedError where it is none."""
        constant_layer = self.find_producer(layer, index, self.trt.LayerType.CONSTANT)
        if constant_layer is None:
            raise UnsupportedError(f"the layer {layer.name} reads no constant: export the model with edgedet again.")
        # The bindings return an ILayer; to narrow it, they want this assignment.
        constant_layer.__class__ = self.trt.IConstantLayer
        values: np.ndarray = np.array(constant_layer.weights).reshape(tuple(constant_layer.shape))
        return values


def convert_to_float(trt: Any, network: Any, parts: Iterable[str]) -> Tuple[int, List[np.ndarray]]:
    """Let convolutions and sums of ``parts`` read the inputs of their quantisers, and give them float weights.

    Returns the number of inputs that were changed, and the arrays that must live until the engine is built. To change
    the activation alone is not enough: the builder then leaves a layer for each convolution that dequantises its
    weights in every frame (seen with TensorRT-RTX 1.7).
    """
    graph = Layers(trt, network)
    chosen = [PARTS[part] for part in parts]
    kinds = (trt.LayerType.CONVOLUTION, trt.LayerType.ELEMENTWISE)
    moved, alive = 0, []
    for layer in graph.layers:
        if layer.type not in kinds or not any(is_part(layer.name) for is_part in chosen):
            continue
        for index in range(layer.num_inputs):
            dequantiser = graph.find_producer(layer, index, trt.LayerType.DEQUANTIZE)
            if dequantiser is None:
                continue
            quantiser = graph.find_producer(dequantiser, 0, trt.LayerType.QUANTIZE)
            if quantiser is not None:  # of an activation, or of weights that are float in the file
                layer.set_input(index, quantiser.get_input(0))
                moved += 1
                continue
            weights = _dequantise(graph, dequantiser)
            alive.append(weights)
            constant = network.add_constant(weights.shape, weights)
            constant.name = f"{layer.name}.weight.float"
            layer.set_input(index, constant.get_output(0))
    return moved, alive


def _dequantise(graph: Layers, dequantiser: Any) -> np.ndarray:
    """Return a weight in the graph's float type: integers (O, ...) times scales (O,)."""
    integers, scales = graph.constant(dequantiser, 0), graph.constant(dequantiser, 1)
    per_channel = scales.reshape((-1,) + (1,) * (integers.ndim - 1))
    real = integers.astype(np.float64) * per_channel.astype(np.float64)
    return np.ascontiguousarray(real.astype(scales.dtype))


def convert_to_half(trt: Any, network: Any) -> List[np.ndarray]:
    """Turn a strongly typed FP32 network of edgedet into FP16 behind the mean's subtraction; outputs stay FP32.

    ``calibration/placement/typed.py`` does the same with a file. Returns arrays that must live until the engine is
    built; raises UnsupportedError where a value is beyond FP16.
    """
    graph = Layers(trt, network)
    before = _find_ancestors(graph, CENTRED)
    alive: List[np.ndarray] = []
    half = network.add_cast(graph.producers[CENTRED].get_output(0), trt.DataType.HALF).get_output(0)
    for layer in graph.layers:
        if layer.name in before:
            continue
        for index in range(layer.num_inputs):
            tensor = layer.get_input(index)
            if tensor is not None and tensor.name == CENTRED:
                layer.set_input(index, half)
        if layer.type == trt.LayerType.CONVOLUTION:
            conv = layer
            conv.__class__ = trt.IConvolutionLayer
            conv.kernel = _convert_values(layer, conv.kernel, alive)
            if conv.bias.size:  # TensorRT logs an error for each bias of no values that is set
                conv.bias = _convert_values(layer, conv.bias, alive)
        elif layer.type == trt.LayerType.CONSTANT:
            constant_layer = layer
            constant_layer.__class__ = trt.IConstantLayer
            if constant_layer.weights.dtype == np.float32:
                constant_layer.weights = _convert_values(layer, constant_layer.weights, alive)
    for output in [network.get_output(index) for index in range(network.num_outputs)]:
        if output.dtype == trt.DataType.INT32:  # the numbers of anchors
            continue
        network.unmark_output(output)
        name, output.name = output.name, f"{output.name}.half"
        wide = network.add_cast(output, trt.DataType.FLOAT).get_output(0)
        wide.name = name
        network.mark_output(wide)
    return alive


def _find_ancestors(graph: Layers, name: str) -> Set[str]:
    """Return the names of all layers that a tensor depends on."""
    if name not in graph.producers:
        return set()
    layer = graph.producers[name]
    inputs = (layer.get_input(index) for index in range(layer.num_inputs))
    return {layer.name}.union(*(_find_ancestors(graph, tensor.name) for tensor in inputs if tensor is not None))


def _convert_values(layer: Any, values: Any, alive: List[np.ndarray]) -> np.ndarray:
    single = np.array(values)
    if np.abs(single).max(initial=0.0) > np.finfo(np.float16).max:
        raise UnsupportedError(f"{layer.name} holds values beyond 65504, FP16's largest: build with --fp32.")
    half = np.ascontiguousarray(single.astype(np.float16))
    alive.append(half)
    return half
