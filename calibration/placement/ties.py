"""Find output scales under which an INT8 operator gives the same integers on every CPU.

XNNPACK (LiteRT 2.3) rounds two operators otherwise on ARM than on x86, where a result lies all but half-way between two
integers; the others are alike (docs/decisions/0004-tflite.md).

MUL takes the exact product of two integers times one float32 ratio of scales. x86 rounds the result to float32 and then
half to even (qs8-vmul, "fp32"); NEON multiplies exactly and rounds halves up ("rndnu"). Half-way points are float32
numbers, and rounding to float32 never passes one: the two differ only where the float32 result *is* half-way. So a
scale is taken under which none is; one in ten has such a product.

MEAN takes the exact sum S of N integers to S x ratio + offset in float32, offset being the zero points'. ARM's compiler
fuses both steps into one rounding, x86's does not. Sums lie too close to each other for any scale to keep them all from
half-way points, so a ratio is taken that has so few bits that S x ratio is exact: then there is one rounding on both.
"""

from __future__ import annotations

import math

import numpy as np

INT8 = np.iinfo(np.int8)
FLOAT32_BITS = 24  # of a mantissa
NEIGHBOURS = 4  # float32 scales on either side that are tried to get one ratio


def find_untied_scale(scale: float, zero_point: int, product_scale: np.float32, products: np.ndarray) -> float:
    """Return a MUL's smallest float32 output scale, from ``scale`` on, under which no product is half-way.

    product_scale: product of the two factors' float32 scales.
    products:      of the two factors' integers, less their zero points.
    """
    to, exact = np.float32(scale), products.astype(np.float32)  # 17 bits at most
    while any_half_way(exact * (product_scale / to), zero_point):
        to = np.nextafter(to, np.float32(np.inf))
    return float(to)


def any_half_way(results: np.ndarray, zero_point: int) -> bool:
    """Return whether a float32 result lies half-way between two integers that are INT8 with the zero point added."""
    inside = (results > INT8.min - zero_point) & (results < INT8.max - zero_point)
    return bool((inside & (results - np.floor(results) == 0.5)).any())


def find_exact_mean_scale(scale: float, input_scale: float, count: int) -> float:
    """Return a MEAN's output scale, ``scale`` or a little larger, under which any sum times the ratio is exact.

    count: of the integers in each sum. 1024 of them leave 7 bits, a scale 0.7 % larger on average; 65,536 leave a power
    of two, 1.4 times.
    """
    bits = max(1, FLOAT32_BITS - math.ceil(math.log2(-INT8.min * count)))
    fraction, exponent = math.frexp(input_scale / (scale * count))
    mantissa = math.floor(math.ldexp(fraction, bits))
    while True:
        ratio = math.ldexp(mantissa, exponent - bits)
        for to in _neighbours(np.float32(input_scale / (ratio * count))):
            if mean_ratio(input_scale, to, count) == ratio:
                return float(to)
        mantissa -= 1
        if mantissa < 1 << (bits - 1):
            mantissa, exponent = (1 << bits) - 1, exponent - 1


def mean_ratio(input_scale: float, scale: float | np.float32, count: int) -> np.float32:
    """Return what XNNPACK multiplies a MEAN's sum with."""
    return np.float32(input_scale) / np.float32(scale) * (np.float32(1) / np.float32(count))


def _neighbours(scale: np.float32) -> list[np.float32]:
    scales = [scale]
    for end in (np.float32(0), np.float32(np.inf)):
        at = scale
        for _ in range(NEIGHBOURS):
            at = np.nextafter(at, end)
            scales.append(at)
    return scales
