"""Float convolutions of a parsed network go into INT8, by the ranges of NAME_int8.table.json. Knows TensorRT's network.

`edgedet export` leaves stem and depthwise convolutions float, because that keeps more accuracy and is often faster. A
board can find out: this makes the same Q/DQ as ``calibration.emit`` would have.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from ...errors import InputError, UnsupportedError
from .layer_precision import Layers

INT8_MAX = 127
SMALLEST_SCALE = 1e-8  # as calibration.plan
# as calibration.typed: a reciprocal that is finite in FP16, and the smallest number that is not 0
SMALLEST_HALF_SCALE, SMALLEST_HALF = 2.0**-14, 2.0**-24
_COPIED = ("stride_nd", "pre_padding", "post_padding", "dilation_nd", "num_groups")


def read_magnitudes(path: Path, source_sha256: str) -> Dict[str, float]:
    """Return tensor -> largest magnitude; raises InputError where the table is none, or of another checkpoint."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        magnitudes = {str(name): float(value) for name, value in values["magnitudes"].items()}
        model = values["model_sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no calibration table of edgedet ({error}): export it again.") from None
    if model != source_sha256:
        raise InputError(f"{path} is of another checkpoint than the model: export both again.")
    return magnitudes


def to_int8(trt: Any, network: Any, magnitudes: Dict[str, float], typed: bool) -> Tuple[int, List[Any]]:
    """Quantise every float convolution but squeeze-excite's; return how many, and what must live until the build."""
    layers = Layers(trt, network)
    alive: List[Any] = []
    moved = 0
    for layer in layers.layers:
        if layer.type == trt.LayerType.CONVOLUTION and layer.num_inputs == 1 and ".se." not in layer.name:
            conv = layer
            conv.__class__ = trt.IConvolutionLayer
            _replace(trt, network, layers, conv, _magnitude(layers, conv, magnitudes), typed, alive)
            moved += 1
    return moved, alive


def _magnitude(layers: Layers, layer: Any, magnitudes: Dict[str, float]) -> float:
    """Return what a convolution reads at most; what casts, pools, resizes and transposes move keeps its range."""
    tensor = layer.get_input(0)
    while tensor.name not in magnitudes:
        source = layers.maker.get(tensor.name)
        if source is None or not source.num_inputs:
            raise UnsupportedError(
                f"the calibration table has no range for what {layer.name} reads: export both again."
            )
        tensor = source.get_input(0)
    return magnitudes[tensor.name]


def quantised(weight: np.ndarray, half: bool) -> Tuple[np.ndarray, np.ndarray]:
    """Return integers (O, I, k, k) in [-127, 127] and scales (O,), as ``calibration.plan.quantised_conv``."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scales = np.maximum(largest / INT8_MAX, SMALLEST_SCALE).astype(np.float32)
    if half:
        scales = np.maximum(scales, SMALLEST_HALF).astype(np.float16)
    integers = np.rint(weight / scales.astype(np.float32).reshape(-1, 1, 1, 1))
    return np.clip(integers, -INT8_MAX, INT8_MAX).astype(np.int8), scales


def _replace(
    trt: Any, network: Any, layers: Layers, conv: Any, magnitude: float, typed: bool, alive: List[Any]
) -> None:
    """Put a convolution in its place that reads integers; a kernel cannot be taken from one that has it."""
    tensor = conv.get_input(0)
    half = tensor.dtype == trt.DataType.HALF
    output_type = (tensor.dtype,) if typed else ()  # weakly typed bindings take the two tensors only
    integer_type = (trt.DataType.INT8,) if typed else ()

    def constant_of(array: np.ndarray, shape: Tuple[int, ...]) -> Any:
        alive.append(np.ascontiguousarray(array))
        return network.add_constant(shape, alive[-1]).get_output(0)

    weight = np.array(conv.kernel, dtype=np.float32).reshape(
        (int(conv.num_output_maps), -1, *(int(side) for side in conv.kernel_size_nd))
    )  # fmt: skip
    integers, scales = quantised(weight, half)
    scale = np.array([max(magnitude / INT8_MAX, SMALLEST_HALF_SCALE if half else SMALLEST_SCALE)], scales.dtype)
    read_scale = constant_of(scale, ())
    quantiser = network.add_quantize(tensor, read_scale, *integer_type)
    dequantiser = network.add_dequantize(quantiser.get_output(0), read_scale, *output_type)
    weights = constant_of(integers, integers.shape)
    of_weights = network.add_dequantize(weights, constant_of(scales, scales.shape), *output_type)
    of_weights.axis = 0
    bias = np.array(conv.bias)
    alive.append(bias)
    name, conv.name = conv.name, f"{conv.name}.float"
    integer_conv = network.add_convolution_nd(
        dequantiser.get_output(0), conv.num_output_maps, conv.kernel_size_nd, trt.Weights(), bias if bias.size
        else trt.Weights(),
    )  # fmt: skip
    integer_conv.set_input(1, of_weights.get_output(0))
    for attribute in _COPIED:
        setattr(integer_conv, attribute, getattr(conv, attribute))
    integer_conv.name, of_weights.name = name, f"{name}.weight.q"
    old, new = conv.get_output(0), integer_conv.get_output(0)
    for layer in layers.layers:
        for index in range(layer.num_inputs):
            read = layer.get_input(index)
            if read is not None and read.name == old.name:
                layer.set_input(index, new)
    name, old.name = old.name, f"{old.name}.float"
    new.name = name  # the table knows it by this name
