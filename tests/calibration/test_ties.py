"""INT8 products and means are the same integers in XNNPACK's two ways of rounding, whatever was calibrated."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from edgedet.calibration.placement.ties import find_exact_mean_scale, find_untied_scale, mean_ratio

# Of a box head's swish that was calibrated once: XNNPACK (LiteRT 2.3) gave 63 on x86 and 64 on a Cortex-A72 and A76 for
# the integers 84 and 100.
SCALES = (np.float32(0.014910173), np.float32(1 / 256), np.float32(0.011165839))
ZEROS = (-56, -128, -103)
INT8 = np.arange(-128, 128)


def on_x86(products: np.ndarray, ratio: np.float32, zero_point: int) -> np.ndarray:
    """Round to float32, then half to even."""
    return np.clip(np.rint(products.astype(np.float32) * ratio).astype(np.int64) + zero_point, -128, 127)


def on_arm(products: np.ndarray, ratio: np.float32, zero_point: int) -> np.ndarray:
    """Multiply exactly, round halves up: a 24-bit multiplier and a shift."""
    multiplier, divisor = Fraction(float(ratio)).as_integer_ratio()
    return np.clip((2 * products * multiplier + divisor) // (2 * divisor) + zero_point, -128, 127)


def differing(scales: tuple[np.float32, ...], zeros: tuple[int, ...]) -> np.ndarray:
    """Return the pairs of integers whose product rounds differently, each of the 65,536 tried."""
    products = np.multiply.outer(INT8 - zeros[0], INT8 - zeros[1])
    ratio = scales[0] * scales[1] / scales[2]
    return np.argwhere(on_x86(products, ratio, zeros[2]) != on_arm(products, ratio, zeros[2])) - 128


def untied(scales: tuple[np.float32, ...], zeros: tuple[int, ...]) -> float:
    products = np.unique(np.multiply.outer(INT8 - zeros[0], INT8 - zeros[1]))
    return find_untied_scale(float(scales[2]), zeros[2], scales[0] * scales[1], products)


def test_a_known_tie_is_gone_by_a_step_of_the_output_scale() -> None:
    """140 x 228 x 0.0052161654 is 166.500001; the float32 beside it is 166.5."""
    assert [84, 100] in differing(SCALES, ZEROS).tolist()
    scale = untied(SCALES, ZEROS)
    assert len(differing((*SCALES[:2], np.float32(scale)), ZEROS)) == 0
    assert 0 < scale / SCALES[2] - 1 < 1e-6


def test_a_scale_without_a_tie_stays() -> None:
    assert untied((np.float32(0.02), np.float32(1 / 256), np.float32(0.0173)), ZEROS) == np.float32(0.0173)


def test_no_pair_of_integers_differs_for_200_random_products() -> None:
    """Before, some do: the brute force sees what there is to see."""
    random = np.random.default_rng(0)
    before = moved = 0
    for _ in range(200):
        first, second = random.uniform(0.005, 0.08, 2).astype(np.float32)
        scales = (first, second, np.float32(first * second * 255 * random.uniform(0.3, 1.0)))
        zeros = tuple(int(zero) for zero in random.integers(-128, 128, 3))
        before += len(differing(scales, zeros))
        scale = np.float32(untied(scales, zeros))
        moved += scale != scales[2]
        assert len(differing((*scales[:2], scale), zeros)) == 0
        assert 0 <= scale / scales[2] - 1 < 2e-6
    assert before > 5
    assert 5 < moved < 150


def mean_on_x86(sums: np.ndarray, ratio: np.float32, offset: int, zero_point: int) -> np.ndarray:
    """Round to float32 at each step; ``offset`` is the input's zero point times the number of integers."""
    moved = sums.astype(np.float32) * ratio + (np.float32(zero_point) - np.float32(offset) * ratio)
    return np.clip(np.rint(moved), -128, 127)


def mean_on_arm(sums: np.ndarray, ratio: np.float32, offset: int, zero_point: int) -> np.ndarray:
    """Round a product and a sum at once, twice; float64 holds such a product exactly."""
    moved = np.float32(np.float64(zero_point) - np.float64(offset) * np.float64(ratio))
    return np.clip(np.rint((sums * np.float64(ratio) + np.float64(moved)).astype(np.float32)), -128, 127)


def means_differ(input_scale: float, scale: float, count: int, zeros: tuple[int, int]) -> int:
    """Return how many of the sums that ``count`` integers can have are rounded differently."""
    sums, ratio = np.arange(-128 * count, 127 * count + 1), mean_ratio(input_scale, scale, count)
    offset = count * zeros[0]
    return int((mean_on_x86(sums, ratio, offset, zeros[1]) != mean_on_arm(sums, ratio, offset, zeros[1])).sum())


def test_a_known_tie_of_a_mean_is_gone() -> None:
    """25 integers of zero point -80 whose sum is -114: XNNPACK gave 86 on x86 and 85 on a Cortex-A72."""
    input_scale, scale, count, zeros = 0.07388003915548325, 0.03327468782663345, 25, (-80, -82)
    ratio, sums = mean_ratio(input_scale, scale, count), np.array([-114])
    assert mean_on_x86(sums, ratio, count * zeros[0], zeros[1]) == 86
    assert mean_on_arm(sums, ratio, count * zeros[0], zeros[1]) == 85
    exact = find_exact_mean_scale(scale, input_scale, count)
    assert means_differ(input_scale, exact, count, zeros) == 0
    assert 0 <= exact / scale - 1 < 0.002


GROWTH = {16: 1.001, 25: 1.002, 400: 1.03, 1024: 1.06, 6700: 1.4, 65536: 2.0}  # largest, by how many are added


@pytest.mark.parametrize("count", GROWTH)
def test_no_sum_differs_and_the_scale_grows_little(count: int) -> None:
    random = np.random.default_rng(count)
    before = 0
    for _ in range(3 if count > 10000 else 20):
        input_scale, zeros = random.uniform(0.01, 0.1), (int(random.integers(-128, 0)), int(random.integers(-128, 128)))
        scale = input_scale / random.uniform(1, 20)
        before += means_differ(input_scale, scale, count, zeros)
        exact = find_exact_mean_scale(scale, input_scale, count)
        assert means_differ(input_scale, exact, count, zeros) == 0
        assert 1 - 1e-6 < exact / scale < GROWTH[count]
    assert before or count < 100  # few sums: seldom a tie


def test_no_product_and_no_mean_of_a_plan_differs() -> None:
    """Swishes, squeeze-excite's means and gates, fusion weights of a D0; the tensors behind share the moved scale."""
    pytest.importorskip("torch", reason="needs the export extra")
    from tflite_models import random_graph, random_plan

    from edgedet.calibration.placement.plan import MEANS, SAME_SCALE, quantise_factor, read_initializers
    from edgedet.specs import SPECS

    spec = replace(SPECS["tf_efficientdet_d0"], num_classes=3, input_hw=(128, 160))
    model = random_graph(spec)
    tensors, constants = random_plan(spec).tensors, read_initializers(model)
    muls = [node for node in model.graph.node if node.op_type == "Mul"]
    for node in muls:
        integers, scales = [], []
        for value in node.input:
            if value in constants:
                factor, scale = quantise_factor(constants[value])
            else:
                factor, scale = INT8 - tensors[value].zero_point, tensors[value].scale
            integers.append(factor.astype(np.int64))
            scales.append(np.float32(scale))
        to = tensors[node.output[0]]
        products, ratio = np.multiply.outer(*integers), scales[0] * scales[1] / np.float32(to.scale)
        np.testing.assert_array_equal(
            on_x86(products, ratio, to.zero_point), on_arm(products, ratio, to.zero_point), err_msg=node.name
        )
    assert len(muls) == 147
    means = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type in MEANS}
    dims = {value.name: value.type.tensor_type.shape.dim for value in model.graph.value_info}
    squeezes = [name for name in means if name in tensors]
    for name in squeezes:
        source = means.get(means[name], means[name])  # behind a mean in two halves
        count = math.prod(dim.dim_value for dim in dims[source][2:])
        zeros = (tensors[source].zero_point, tensors[name].zero_point)
        assert means_differ(tensors[source].scale, tensors[name].scale, count, zeros) == 0
    assert len(squeezes) == 16
    moved = [node for node in model.graph.node if node.op_type in SAME_SCALE and node.output[0] in tensors]
    assert all(tensors[node.output[0]] == tensors[node.input[0]] for node in moved)
    assert {node.input[0] for node in moved} & {node.output[0] for node in muls}
