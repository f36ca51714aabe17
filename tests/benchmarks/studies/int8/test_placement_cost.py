"""The cost model of placements: figures by hand, and the search against all placements of small networks."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="graphs are read by onnx")
pytest.importorskip("torch", reason="graphs are made with PyTorch")

from edgedet.benchmarks.studies.int8.placement_cost import (
    KERNEL_US,
    Conv,
    Gpu,
    best_placement,
    cost_us,
    graph_of,
    read_convs,
    recipes_of,
)

GPU = Gpu(fp16=10.0, int8=20.0, cuda_cores=1.0, bytes=100.0)


def conv(name: str, feeds: tuple[str, ...] = (), macs: int = 1000, moved: int = 800, depthwise: bool = False) -> Conv:
    return Conv(onnx.NodeProto(name=name, op_type="Conv"), macs, 0, moved, moved, depthwise, feeds)


def test_costs_by_hand():
    """macs 1000: 100 us in FP16, 50 in INT8. 8000 values in and out: 320 us in FP16; in INT8 240 (out as FP16)."""
    small = {"a": conv("a")}
    assert cost_us(small, frozenset(), GPU, True) == 100 + KERNEL_US
    assert cost_us(small, frozenset("a"), GPU, True) == 50 + KERNEL_US
    large = {"a": conv("a", moved=8000)}
    assert cost_us(large, frozenset(), GPU, True) == 320 + KERNEL_US
    assert cost_us(large, frozenset("a"), GPU, True) == 240 + KERNEL_US
    assert cost_us(large, frozenset("a"), GPU, False) == 240 + 640 + 2 * KERNEL_US  # FP32 out, in again


def test_a_float_convolution_before_an_int8_one_needs_a_kernel_that_rounds():
    """It writes 2 bytes, which are read again and written as 1; the INT8 one before it writes 1 at once."""
    pair = {"a": conv("a", ("b",), 0, 1000), "b": conv("b", (), 0, 1000)}
    alone = 30 + KERNEL_US  # b: 1 byte in, 2 out
    assert cost_us(pair, frozenset("b"), GPU, True) == pytest.approx(20 + 50 + 2 * KERNEL_US + alone)
    assert cost_us(pair, frozenset("ab"), GPU, True) == pytest.approx(20 + KERNEL_US + alone)


@pytest.mark.parametrize("fuses", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_the_search_finds_the_best_of_all_placements(fuses: bool, seed: int):
    """Chains of eight convolutions, each of which may also be read by a later one."""
    rng = np.random.default_rng(seed)
    names = "abcdefgh"
    convs = {}
    for at, name in enumerate(names):
        later = names[at + 1 : at + 2] + ("" if rng.random() < 0.7 else names[at + 2 : at + 3])
        macs, moved = int(rng.integers(0, 3000)), int(rng.integers(100, 9000))
        convs[name] = conv(name, tuple(later), macs, moved, bool(rng.random() < 0.3))
    everything = chain.from_iterable(combinations(names, count) for count in range(9))
    least = min(cost_us(convs, frozenset(int8), GPU, fuses) for int8 in everything)
    _, us = best_placement(convs, [frozenset(), frozenset(names)], GPU, fuses)
    assert us <= least * 1.02


def test_the_convolutions_of_d0_and_what_they_feed():
    convs = read_convs(graph_of("tf_efficientdet_d0"))
    assert len(convs) == 181  # D0's but for squeeze-excite's
    assert convs["fpn.cell.0.fnode.0.conv_dw"].feeds == ("fpn.cell.0.fnode.0.conv_pw",)
    assert convs["class_net.conv_rep.0.conv_pw.0"].feeds == ("class_net.conv_rep.1.conv_dw.0",)
    assert convs["backbone.blocks.1.0.conv_pw"].feeds == ("backbone.blocks.1.0.conv_dw",)
    assert convs["backbone.blocks.1.0.conv_dw"].feeds == ()  # squeeze-excite's product stands between
    assert {name: len(int8) for name, int8 in recipes_of(convs).items()} == {
        "fp16": 0,
        "int8, all": 181,
        "int8": 164,
        "int8, fpn and heads fp16": 30,
    }
