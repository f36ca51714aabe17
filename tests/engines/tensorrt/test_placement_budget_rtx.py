"""What INT8 costs in kernels and bytes beside FP16, as NVIDIA's own builder makes them (TensorRT-RTX, compute 8.6).

TensorRT-RTX computes nothing behind an INT8 convolution in its kernel: the sums leave it as FP32, four bytes each, and
the next kernel adds bias and swish and quantises. TensorRT's Developer Guide ("Q/DQ Fusions") says that it fuses these;
bytes are therefore an upper bound, which holds what is reached (docs/decisions/0005-tensorrt.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
trt = pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra: NVIDIA's builder, which works without a GPU")

from models import random_network, random_pixels
from rtx_layers import Layer, built_layers
from sparse_models import sparse_model

from edgedet.calibration.graph.macs import count_conv_macs
from edgedet.calibration.placement.typed import make_typed_graph
from edgedet.calibration.quantise import KEEP_FLOAT
from edgedet.engines.tensorrt.int8_layers import convert_to_dense
from edgedet.engines.tensorrt.layer_precision import convert_to_float, convert_to_half
from edgedet.specs import SPECS


@dataclass(frozen=True)
class Cost:
    """Kernels of an engine, those that only quantise, and the bytes that all of them read and write."""

    kernels: int
    lone_quantisers: int
    moved_bytes: int


def cost_of(layers: list[Layer]) -> Cost:
    return Cost(
        len(layers), sum(layer.is_lone_quantiser for layer in layers), sum(layer.moved_bytes for layer in layers)
    )


# Variant, pixels of a side, kernels that only quantise, and kernels and bytes as multiples of FP16, each at most: what
# is reached, and a little. Lite has no squeeze-excite, whose product would round for the convolution behind it: its
# backbone's float depthwise convolutions need a kernel each that only does so.
BUDGETS = [
    ("tf_efficientdet_d0", 512, 0, 1.031, 1.50),  # of 291: the 300 that were wanted
    ("tf_efficientdet_d2", 256, 0, 1.15, 1.50),
    ("tf_efficientdet_lite0", 320, 16, 1.15, 2.00),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side", "lone", "kernels", "share"), BUDGETS)
def test_int8_stays_within_its_budget(name: str, side: int, lone: int, kernels: float, share: float) -> None:
    spec = replace(SPECS[name], num_classes=6, input_hw=(side, side))
    model, sparse, plan = sparse_model(random_network(spec), random_pixels(spec), KEEP_FLOAT)
    macs = count_conv_macs(model)
    assert sum(macs[conv] for conv in plan.convs) >= 0.85 * sum(macs.values())
    typed = make_typed_graph(sparse)
    fp16 = cost_of(built_layers(model, lambda network: convert_to_half(trt, network)))
    written = cost_of(built_layers(typed))
    dense = cost_of(built_layers(typed, lambda network: convert_to_dense(trt, network, typed=True)[1]))
    backbone = cost_of(built_layers(typed, lambda network: convert_to_float(trt, network, ("fpn", "heads"))[1]))
    assert fp16.lone_quantisers == 0
    assert max(backbone.lone_quantisers, dense.lone_quantisers) <= lone < written.lone_quantisers
    assert dense.kernels <= kernels * fp16.kernels < written.kernels
    assert dense.moved_bytes <= share * fp16.moved_bytes < written.moved_bytes
    assert backbone.moved_bytes < written.moved_bytes
