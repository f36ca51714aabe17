"""INT8 products are the same integers in XNNPACK's two ways of rounding, whatever was calibrated."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from edgedet.calibration.ties import untied_scale

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
    return untied_scale(float(scales[2]), zeros[2], scales[0] * scales[1], products)


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


def test_each_product_of_a_plan_is_without_ties() -> None:
    """Swishes, squeeze-excite's gates and fusion weights of a D0; the tensors behind share the moved scale."""
    pytest.importorskip("torch", reason="needs the export extra")
    from models import random_network
    from test_network import random_pixels
    from tflite_models import graph_of, plan_for

    from edgedet.calibration.plan import SAME_SCALE, initializers, quantised_factor
    from edgedet.specs import SPECS

    spec = replace(SPECS["tf_efficientdet_d0"], num_classes=3, input_hw=(128, 160))
    model = graph_of(random_network(spec))
    tensors, constants = plan_for(model, spec, random_pixels(spec)).tensors, initializers(model)
    muls = [node for node in model.graph.node if node.op_type == "Mul"]
    for node in muls:
        integers, scales = [], []
        for value in node.input:
            if value in constants:
                factor, scale = quantised_factor(constants[value])
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
    moved = [node for node in model.graph.node if node.op_type in SAME_SCALE and node.output[0] in tensors]
    assert all(tensors[node.output[0]] == tensors[node.input[0]] for node in moved)
    assert {node.input[0] for node in moved} & {node.output[0] for node in muls}
