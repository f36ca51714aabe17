"""Fit the constants to the published figures, and measure their error on figures that were left out of the fit.

python -m edgedet.benchmarks.studies.planner_tables --docs docs/planning.md writes constants.json and that document's
tables again.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from edgedet.benchmarks.planner.boards import Board, Figure, read_boards, read_figures, read_other_networks
from edgedet.benchmarks.planner.model import (
    Constants,
    Machine,
    Point,
    compute_left_out_errors,
    compute_log_error,
    fit_constants,
)
from edgedet.files import atomic_path

CONSTANTS = Path(__file__).with_name("constants.json")
# Proportions that a fit starts from, and keeps as far as figures do not say otherwise: round numbers near those that
# boards with 10 to 24 figures gave by themselves.
PRIORS = {
    "fp32": Constants(dense=0.7, depthwise=0.2, bytes=0.2, layer=20.0),
    "fp16": Constants(dense=0.7, depthwise=0.2, bytes=0.2, layer=20.0),
    "int8": Constants(dense=0.7, depthwise=0.07, bytes=0.2, layer=30.0),
}
BASE = "jetson-nano"  # the only Jetson that figures of this family were published for
# Networks of the same blocks as ours (1 x 1 and depthwise convolutions, squeeze-excite, swish): how much faster they
# are on another Jetson is taken to be how much faster ours are.
SAME_BLOCKS = ("MixNet-s", "MixNet-m", "MixNet-l", "MobileNetV3-small", "MobileNetV3-large")


@dataclass(frozen=True)
class Fit:
    """Constants of one board and precision, and how wrong they are.

    figures: number of published latencies.
    rms, worst: of ln(predicted / published), each model predicted by constants of the others.
    """

    constants: Constants
    figures: int
    rms: float
    worst: float


@dataclass(frozen=True)
class SpeedUp:
    """How many times as fast as on BASE networks run on a board.

    middle: geometric mean over SAME_BLOCKS; slowest: the least of them; fastest: the most of all networks.
    """

    middle: float
    slowest: float
    fastest: float


def find_machine(board: Board) -> Machine:
    """Return the machine that a board's constants are relative to."""
    return Machine(board.gmacs, board.gb_per_s, board.engine)


def list_points(board: Board, precision: str) -> list[Point]:
    """Return a board's published latencies."""
    return [
        _point(board, figure)
        for figure in read_figures()
        if (figure.board, figure.precision) == (board.name, precision)
    ]


def _point(board: Board, figure: Figure) -> Point:
    return Point(find_machine(board), figure.variant, None, figure.precision, figure.threads, figure.ms)


def list_measured_groups() -> list[tuple[Board, str]]:
    """Return boards and precisions that figures were published for."""
    known = read_boards()
    return [
        (known[name], precision) for name, precision in dict.fromkeys((f.board, f.precision) for f in read_figures())
    ]


def fit_board(board: Board, precision: str) -> Fit:
    """Fit one board and judge it by leaving each model out."""
    points = list_points(board, precision)
    errors = [error for _, error in compute_left_out_errors(points, PRIORS[precision])]
    return Fit(
        fit_constants(points, PRIORS[precision]),
        len(points),
        math.sqrt(sum(e * e for e in errors) / len(errors)),
        max(abs(e) for e in errors),
    )


@cache
def read_fits() -> dict[tuple[str, str], Fit]:
    """Return the fits of constants.json, by board and precision."""
    stored = json.loads(CONSTANTS.read_text(encoding="utf-8"))["fits"]
    return {
        (item["board"], item["precision"]): Fit(
            Constants(**item["constants"]), item["figures"], item["rms"], item["worst"]
        )
        for item in stored
    }


def estimate_speed_up(board: str, without: str = "") -> SpeedUp | None:
    """Return a Jetson's speed-up over BASE by published times of other networks; None where there are none."""
    ratios = {
        name: times[BASE] / times[board]
        for name, times in read_other_networks().items()
        if board in times and name != without
    }
    same = [ratios[name] for name in SAME_BLOCKS if name in ratios]
    if not same:
        return None
    middle = math.exp(sum(map(math.log, same)) / len(same))
    return SpeedUp(middle, min(same), max(ratios.values()))


def compute_board_errors(family: str, precision: str) -> list[tuple[Board, list[float]]]:
    """Leave each board of a family out; return it with the log errors of the constants that the others gave."""
    group = [
        board
        for board, fitted_precision in list_measured_groups()
        if board.family == family and fitted_precision == precision
    ]
    result = []
    for left_out in group:
        rest = [point for board in group if board is not left_out for point in list_points(board, precision)]
        if rest:
            constants = fit_constants(rest, PRIORS[precision])
            result.append(
                (left_out, [compute_log_error(constants, point) for point in list_points(left_out, precision)])
            )
    return result


def compute_scaled_ratio(board: Board, like: Board) -> float:
    """Return how many times as fast a board is as one with the same cores: the smaller of its two peaks' ratios."""
    precision = next(iter(board.gmacs))
    compute = board.gmacs[precision] * board.cores / (like.gmacs[precision] * like.cores)
    return min(compute, board.gb_per_s / like.gb_per_s)


def write_constants(path: Path) -> None:
    """Fit all boards and write the file."""
    lines = []
    for board, precision in list_measured_groups():
        fit = fit_board(board, precision)
        values = {
            "board": board.name,
            "precision": precision,
            "constants": {name: float(f"{value:.4g}") for name, value in asdict(fit.constants).items()},
            "figures": fit.figures,
            "rms": round(fit.rms, 4),
            "worst": round(fit.worst, 4),
        }
        lines.append(json.dumps(values))
    with atomic_path(path) as temporary:
        temporary.write_text('{"fits": [\n' + ",\n".join(lines) + "\n]}\n", encoding="utf-8")
