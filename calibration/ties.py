"""Scales under which no INT8 product falls half-way between two integers. Knows numbers; knows no graph.

XNNPACK's MUL takes the product of two integers, exactly, times one float32 ratio of scales. On x86 the result is
rounded to float32 and then half to even (qs8-vmul, "fp32"); NEON multiplies exactly and rounds halves up ("rndnu").
Half-way points are float32 numbers, and rounding to float32 never passes one: the two differ only where the float32
result *is* half-way. Where none is, every CPU gives the same integer. The margin is thus nothing but that number.
"""

from __future__ import annotations

import numpy as np

INT8 = np.iinfo(np.int8)


def untied_scale(scale: float, zero_point: int, product_scale: np.float32, products: np.ndarray) -> float:
    """Return the smallest float32 output scale, from ``scale`` on, under which no product is half-way.

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
