"""Put float convolutions of a parsed network into INT8, by the ranges of NAME_int8.table.json.

`edgedet export` leaves stem and depthwise convolutions float, because that keeps more accuracy and is often faster. A
board can try the other way: this adds the same Q/DQ pairs as ``calibration/placement/emit.py`` would have.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from ...errors import InputError, UnsupportedError
from .layer_precision import Layers

INT8_MAX = 127
SMALLEST_SCALE = 1e-8  # as calibration/placement/plan.py
# as calibration/placement/typed.py: a reciprocal that is finite in FP16, and the smallest number that is not 0
SMALLEST_HALF_SCALE, SMALLEST_HALF = 2.0**-14, 2.0**-24
_COPIED = ("stride_nd", "pre_padding", "post_padding", "dilation_nd")
_SEPARABLE = ("fpn.", "class_net.", "box_net.")  # parts whose pairs have no activation between them


def read_magnitudes(path: Path, source_sha256: str) -> Dict[str, float]:
    """Read the largest magnitude of each tensor from a calibration table.

    Raises InputError where the file is no such table, or belongs to another checkpoint.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        magnitudes = {str(name): float(value) for name, value in values["magnitudes"].items()}
        model = values["model_sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no calibration table of edgedet ({error}): export it again.") from None
    if model != source_sha256:
        raise InputError(f"{path} is of another checkpoint than the model: export both again.")
    return magnitudes


def convert_to_int8(trt: Any, network: Any, magnitudes: Dict[str, float], typed: bool) -> Tuple[int, List[Any]]:
    """Quantise every float convolution but those of squeeze-excite.

    Returns the number of them, and the arrays that must live until the engine is built.
    """
    layers = Layers(trt, network)
    alive: List[Any] = []
    writer = _Writer(trt, network, layers, typed, alive)
    moved = 0
    for layer in layers.layers:
        if layer.type == trt.LayerType.CONVOLUTION and layer.num_inputs == 1 and ".se." not in layer.name:
            conv = layer
            conv.__class__ = trt.IConvolutionLayer
            data = writer.add_quantiser(conv.get_input(0), _find_magnitude(layers, conv, magnitudes))
            shape = (int(conv.num_output_maps), -1, *(int(side) for side in conv.kernel_size_nd))
            weight = np.array(conv.kernel, dtype=np.float32).reshape(shape)
            writer.replace_convolution(conv, data, weight, np.array(conv.bias), like=conv)
            moved += 1
    return moved, alive


def _find_magnitude(layers: Layers, layer: Any, magnitudes: Dict[str, float]) -> float:
    """Return the largest magnitude of a convolution's input; casts, pools, resizes and transposes keep the range."""
    tensor = layer.get_input(0)
    while tensor.name not in magnitudes:
        source = layers.producers.get(tensor.name)
        if source is None or not source.num_inputs:
            raise UnsupportedError(
                f"the calibration table has no range for what {layer.name} reads: export both again."
            )
        tensor = source.get_input(0)
    return magnitudes[tensor.name]


def quantise_weights(weight: np.ndarray, half: bool) -> Tuple[np.ndarray, np.ndarray]:
    """Return integers (O, I, k, k) in [-127, 127] and scales (O,), as ``calibration.placement.plan.quantise_conv``."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scales = np.maximum(largest / INT8_MAX, SMALLEST_SCALE).astype(np.float32)
    if half:
        scales = np.maximum(scales, SMALLEST_HALF).astype(np.float16)
    integers = np.rint(weight / scales.astype(np.float32).reshape(-1, 1, 1, 1))
    return np.clip(integers, -INT8_MAX, INT8_MAX).astype(np.int8), scales


class _Writer:
    """Adds INT8 convolutions to a network in the place of others."""

    def __init__(self, trt: Any, network: Any, layers: Layers, typed: bool, alive: List[Any]) -> None:
        self._trt, self._network, self._layers, self._typed, self._alive = trt, network, layers, typed, alive

    def _constant(self, array: np.ndarray, shape: Tuple[int, ...]) -> Any:
        self._alive.append(np.ascontiguousarray(array))
        return self._network.add_constant(shape, self._alive[-1]).get_output(0)

    def add_quantiser(self, tensor: Any, magnitude: float) -> Any:
        """Add a Q/DQ pair that covers [-magnitude, magnitude]; return its output."""
        half = tensor.dtype == self._trt.DataType.HALF
        scale = max(magnitude / INT8_MAX, SMALLEST_HALF_SCALE if half else SMALLEST_SCALE)
        read_scale = self._constant(np.array([scale], np.float16 if half else np.float32), ())
        integer_type = (self._trt.DataType.INT8,) if self._typed else ()  # weakly typed bindings take two tensors only
        quantiser = self._network.add_quantize(tensor, read_scale, *integer_type)
        output_type = (tensor.dtype,) if self._typed else ()
        return self._network.add_dequantize(quantiser.get_output(0), read_scale, *output_type).get_output(0)

    def replace_convolution(self, old: Any, data: Any, weight: np.ndarray, bias: np.ndarray, like: Any) -> None:
        """Replace ``old`` by a convolution of the dequantised ``data`` with ``weight`` (O, I, k, k).

        like: the layer that has the stride, padding, dilation and, for depthwise weights, the groups of the new one.
        A layer's kernel cannot be removed, so the convolution is a new layer.
        """
        trt, network = self._trt, self._network
        half = data.dtype == trt.DataType.HALF
        integers, scales = quantise_weights(weight, half)
        output_type = (data.dtype,) if self._typed else ()
        weight_scales = self._constant(scales, scales.shape)
        if self._typed:
            integer_weights = self._constant(integers, integers.shape)
        else:  # TensorRT 8 takes no INT8 constants
            exact = integers * scales.reshape(-1, 1, 1, 1)
            weight_quantiser = network.add_quantize(self._constant(exact, exact.shape), weight_scales)
            weight_quantiser.axis = 0
            integer_weights = weight_quantiser.get_output(0)
        weight_dequantiser = network.add_dequantize(integer_weights, weight_scales, *output_type)
        weight_dequantiser.axis = 0
        self._alive.append(bias)
        name, old.name = old.name, f"{old.name}.float"
        new = network.add_convolution_nd(
            data, len(weight), weight.shape[2:], trt.Weights(), bias if bias.size else trt.Weights()
        )
        new.set_input(1, weight_dequantiser.get_output(0))
        for attribute in _COPIED:
            setattr(new, attribute, getattr(like, attribute))
        new.num_groups = int(like.num_groups) if weight.shape[1] == 1 else 1
        new.name, weight_dequantiser.name = name, f"{name}.weight.q"
        self._redirect_readers(old.get_output(0), new.get_output(0))

    def _redirect_readers(self, before: Any, after: Any) -> None:
        """Let the readers of one tensor read the other one, under the same name, by which the table finds it."""
        for layer in self._layers.layers:
            for index in range(layer.num_inputs):
                tensor = layer.get_input(index)
                if tensor is not None and tensor.name == before.name:
                    layer.set_input(index, after)
        name, before.name = before.name, f"{before.name}.float"
        after.name = name


def convert_to_dense(trt: Any, network: Any, typed: bool) -> Tuple[int, List[Any]]:
    """Turn each INT8 pair of depthwise and pointwise convolution in BiFPN and heads into one dense INT8 convolution.

    This is exact except for the rounding of weights, because nothing stands between the two. It multiplies more, but
    each pair saves a kernel, a quantiser and a rounding of activations: 299 kernels instead of 427 for D0 (TensorRT-RTX
    1.7). Returns the number of pairs, and the arrays that must live until the engine is built.
    """
    layers = Layers(trt, network)
    alive: List[Any] = []
    writer = _Writer(trt, network, layers, typed, alive)
    moved = 0
    for pointwise in layers.layers:
        depthwise = _find_depthwise_before(trt, layers, pointwise)
        if depthwise is None:
            continue
        for conv in (depthwise, pointwise):
            conv.__class__ = trt.IConvolutionLayer
        depthwise_weight = layers.read_dequantised_weight(depthwise)
        pointwise_weight = layers.read_dequantised_weight(pointwise)
        weight = pointwise_weight[:, :, 0, 0, None, None].astype(np.float32)
        weight = weight * depthwise_weight[None, :, 0].astype(np.float32)
        writer.replace_convolution(pointwise, depthwise.get_input(0), weight, np.array(pointwise.bias), like=depthwise)
        moved += 1
    return moved, alive


def _find_depthwise_before(trt: Any, layers: Layers, layer: Any) -> Any:
    """Return the INT8 depthwise convolution of BiFPN or heads whose output an INT8 pointwise one reads, else None."""
    if layer.type != trt.LayerType.CONVOLUTION or ".conv_pw" not in layer.name:
        return None
    dequantiser = layers.find_producer(layer, 0, trt.LayerType.DEQUANTIZE)
    quantiser = None if dequantiser is None else layers.find_producer(dequantiser, 0, trt.LayerType.QUANTIZE)
    before = None if quantiser is None else layers.find_producer(quantiser, 0, trt.LayerType.CONVOLUTION)
    if before is None or ".conv_dw" not in before.name or not before.name.startswith(_SEPARABLE):
        return None
    return before if layers.find_producer(before, 0, trt.LayerType.DEQUANTIZE) is not None else None
