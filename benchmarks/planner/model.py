"""Predict milliseconds from layer costs, by a roofline for each layer with four constants, and fit the constants.

A layer takes the longer of computing (multiply-accumulates at a rate of dense or of depthwise convolutions) and moving
its bytes, and a fixed time besides. Rates are shares of the machine's peaks, so that constants can go from one board of
a family to another. (Williams, Waterman, Patterson: Roofline, 2009.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from edgedet.benchmarks.planner.costs import find_costs
from edgedet.benchmarks.profile.layer_costs import BYTES

# What becomes of a swish, which the graph has as a sigmoid and a product. TensorRT computes it inside the convolution
# before it: with a pass of its own, constants of Lite models are 65 % off for D models on the Jetson Nano.
# onnxruntime makes one QuickGelu of the two (seen in its optimised D0), XNNPACK one table in INT8 (docs/tflite.md).
SWISH = {"trt": "inside", "ort": "one pass", ("tflite", "int8"): "one pass", ("tflite", "fp32"): "as written"}
# A figure is taken to be off by 3 % by chance; constants to differ by a factor of 1.35 (e^0.3) from the prior's
# proportions. With many figures the prior has no weight; with one it decides all but the speed as a whole.
FIGURE_SIGMA, PRIOR_SIGMA = 0.03, 0.3
LAYER_UNIT_S = 1e-6


@dataclass(frozen=True)
class Machine:
    """What constants are relative to: one core's peak, memory bandwidth, and cores.

    gmacs: precision -> 1e9 multiply-accumulates a second and core. For a measured machine all ones.
    """

    gmacs: dict[str, float]
    gb_per_s: float
    engine: str


@dataclass(frozen=True)
class Constants:
    """What a machine reaches.

    dense, depthwise: share of the peak, in convolutions of that kind.
    bytes:            share of the memory bandwidth.
    layer:            microseconds that each layer costs besides.
    """

    dense: float
    depthwise: float
    bytes: float
    layer: float


@dataclass(frozen=True)
class Point:
    """One latency to fit or to compare with."""

    machine: Machine
    variant: str
    side: int | None
    precision: str
    threads: int
    ms: float


def predict_ms(
    constants: Constants, machine: Machine, variant: str, side: int | None, precision: str, threads: int
) -> float:
    """Return the milliseconds of one picture at batch 1."""
    theta = np.log([1 / constants.dense, 1 / constants.depthwise, 1 / constants.bytes, constants.layer])
    return _predict(theta, Point(machine, variant, side, precision, threads, 0.0))


@cache
def _list_work(variant: str, side: int | None, swish: str) -> tuple[np.ndarray, ...]:
    """Return of each kind of layer: how many there are, multiply-accumulates, elements moved, whether depthwise."""
    rows = []
    for row in find_costs(variant, side).rows:
        elements = row.read + row.weights + row.written
        if row.op_class == "relu6" or (row.op_class == "swish" and swish == "inside"):
            continue
        if row.op_class == "swish" and swish == "one pass":
            if row.read == row.written:  # the sigmoid; the product reads it and its input
                continue
            elements -= row.written
        rows.append((row.count, row.macs, elements, row.op_class == "depthwise"))
    count, macs, moved, is_depthwise = (np.array(values, np.float64) for values in zip(*rows, strict=True))
    return count, macs, moved, is_depthwise > 0


def _predict(theta: np.ndarray, point: Point) -> float:
    engine = point.machine.engine
    swish = SWISH.get(engine) or SWISH[engine, point.precision]
    count, macs, elements, is_depthwise = _list_work(point.variant, point.side, swish)
    dense, depthwise, moved, layer = np.exp(theta)
    rate = point.machine.gmacs[point.precision] * 1e9 * point.threads
    computing = macs / rate * np.where(is_depthwise, depthwise, dense)
    moving = elements * BYTES[point.precision] / (point.machine.gb_per_s * 1e9) * moved
    return 1e3 * float((count * (np.maximum(computing, moving) + layer * LAYER_UNIT_S)).sum())


def fit_constants(points: Sequence[Point], prior: Constants) -> Constants:
    """Return the constants that explain latencies best, in ratios (maximum a posteriori, Levenberg-Marquardt).

    The prior says the proportions between constants, not the speed as a whole; see FIGURE_SIGMA and PRIOR_SIGMA.
    """
    start = np.log([1 / prior.dense, 1 / prior.depthwise, 1 / prior.bytes, prior.layer])
    logs_ms = np.log([point.ms for point in points])

    def residuals(theta: np.ndarray) -> np.ndarray:
        off = np.log([_predict(theta, point) for point in points]) - logs_ms
        moved = theta - start
        return np.concatenate([off / FIGURE_SIGMA, (moved - moved.mean()) / PRIOR_SIGMA])

    theta, damping = start + np.mean(logs_ms - np.log([_predict(start, point) for point in points])), 1e-2
    now = residuals(theta)
    for _ in range(100):
        step_size = 1e-4
        slopes = np.stack(
            [(residuals(theta + step_size * np.eye(len(theta))[i]) - now) / step_size for i in range(len(theta))], 1
        )
        step = np.linalg.solve(slopes.T @ slopes + damping * np.eye(len(theta)), -slopes.T @ now).clip(-1, 1)
        tried = residuals(theta + step)
        if tried @ tried < now @ now:
            theta, now, damping = theta + step, tried, damping / 3
        else:
            damping *= 5
        if np.abs(step).max() < 1e-5:
            break
    times = np.exp(theta)
    return Constants(*(float(value) for value in (*(1 / times[:3]), times[3])))


def compute_log_error(constants: Constants, point: Point) -> float:
    """Return ln(predicted / published): +0.1 is 10 % too slow."""
    return float(
        np.log(
            predict_ms(constants, point.machine, point.variant, point.side, point.precision, point.threads) / point.ms
        )
    )


def compute_left_out_errors(points: Sequence[Point], prior: Constants) -> list[tuple[Point, float]]:
    """Leave each model out in turn; return each of its latencies with its log error by the constants of the others."""
    errors = []
    for variant in dict.fromkeys(point.variant for point in points):
        rest = [point for point in points if point.variant != variant]
        constants = fit_constants(rest, prior)
        errors += [(point, compute_log_error(constants, point)) for point in points if point.variant == variant]
    return errors
