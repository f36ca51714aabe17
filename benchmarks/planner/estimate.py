"""One row of a plan: latency with its band, memory and accuracy of a variant on a board."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from edgedet.benchmarks.planner.boards import (
    Accuracy,
    Board,
    find_accuracy,
    find_board,
    read_boards,
    read_figures,
    read_other_networks,
)
from edgedet.benchmarks.planner.costs import find_own_side
from edgedet.benchmarks.planner.fit import (
    BASE,
    SAME_BLOCKS,
    compute_scaled_ratio,
    estimate_speed_up,
    find_machine,
    read_fits,
)
from edgedet.benchmarks.planner.memory import estimate_memory_mb
from edgedet.benchmarks.planner.model import Constants, Machine, predict_ms
from edgedet.errors import UnsupportedError

# A band is never narrower: boards of one kind differ, and so do engines' versions.
LEAST_ERROR = 0.05
# Published CPU figures are of Lite models only: how far constants of Lite0-3 of a PC were off for D0-D4 at worst
# (LiteRT, tests/golden/bench_x86_litert_*.json), rounded up.
LITE_TO_D_ERROR = 0.1
# INT8 / FP16 of D0 on an unnamed GPU (NVIDIA's TensorRT sample): 1.75 / 2.27 ms where TensorRT chose each layer's
# precision by a calibrator (implicit INT8, which no file with Q/DQ is), 1.63 all INT8. Others find no gain (TensorRT
# issue 4529: depthwise is slower in INT8), hence the slow end.
TRT_INT8 = (1.63 / 2.27, 1.75 / 2.27, 1.0)
# Pairs with cores of one kind, by which scaling with data sheets is judged: the faster, the other.
SCALED_PAIRS = (("agx-orin", "orin-nano"), ("agx-xavier", "xavier-nx"), ("raspberry-pi-3b-plus", "raspberry-pi-3"))
SYSTEM_MB = 600.0  # a Linux system without a desktop, and the camera's buffers


@dataclass(frozen=True)
class Estimate:
    """The latency, memory and accuracy to expect of one variant at one size and precision on one board, batch 1.

    ms, low_ms, high_ms: middle and band. On boards with figures of their own the band is the worst error of a model
                         that was left out of the fit; elsewhere it is wider, and ``basis`` says why.
    basis:     "fitted" on figures of this board; "extrapolated" from other boards; "measured" itself; "measured
               constants": predicted from other models that were measured on this board.
    why:       what the estimate rests on, in words.
    memory_mb: of the whole process.
    """

    variant: str
    side: int
    precision: str
    engine: str
    ms: float
    low_ms: float
    high_ms: float
    basis: str
    why: str
    memory_mb: float
    ap: Accuracy


@dataclass(frozen=True)
class Timing:
    """How milliseconds of a board are estimated: by constants of a machine, times a factor with its band."""

    constants: Constants
    machine: Machine
    precision: str
    basis: str
    why: str
    error: float
    factor: tuple[float, float, float] = (1.0, 1.0, 1.0)  # fast end, middle, slow end
    lite_only: bool = False


def estimate(board: Board, variant: str, side: int, precision: str, threads: int) -> Estimate:
    """Return the estimate; raises UnsupportedError for a precision that nothing is known of on this board."""
    return make_estimate(find_timing(board, precision), variant, side, precision, threads)


def make_estimate(timing: Timing, variant: str, side: int, precision: str, threads: int) -> Estimate:
    """Return the estimate that a timing gives."""
    middle = predict_ms(timing.constants, timing.machine, variant, side, timing.precision, threads)
    error = max(timing.error, LEAST_ERROR)
    basis, why = timing.basis, timing.why
    if timing.lite_only and not variant.startswith("lite"):
        basis, error = "extrapolated", error + LITE_TO_D_ERROR
        why += f"; they are of Lite models, and D models may be off by {format_percent(LITE_TO_D_ERROR)} more"
    fast, factor, slow = timing.factor
    engine = timing.machine.engine
    return Estimate(
        variant,
        side,
        precision,
        engine,
        middle * factor,
        middle * fast * math.exp(-error),
        middle * slow * math.exp(error),
        basis,
        why,
        estimate_memory_mb(variant, side, precision, engine),
        find_accuracy(variant, side, precision),
    )


def find_timing(board: Board, precision: str) -> Timing:
    """Return how latencies of a board are estimated; raises UnsupportedError where nothing is known of it."""
    timing = _find_timing(board, precision)
    if timing is None:
        is_possible = precision in board.precisions
        reason = "nothing was published about it" if is_possible else f"there is no {precision} ({board.engine})"
        raise UnsupportedError(
            f"{precision} cannot be planned for {board.title}, because {reason}: choose from "
            f"{', '.join(list_precisions(board))}, or run `edgedet bench --json bench.json` there and plan with "
            "--from bench.json."
        )
    return timing


def list_precisions(board: Board) -> list[str]:
    """Return the precisions of which latencies are known, measured or published."""
    return [precision for precision in board.precisions if _find_timing(board, precision) is not None]


def _find_timing(board: Board, precision: str) -> Timing | None:
    if precision not in board.precisions:
        return None
    if precision == "int8" and board.engine == "trt":
        half = _find_timing(board, "fp16")
        return None if half is None else _time_trt_int8(half)
    fit = read_fits().get((board.name, precision))
    if fit is not None:
        worst = format_percent(fit.worst)
        why = f"{fit.figures} published figures of this board; worst error of a model left out {worst}"
        lite_only = board.engine == "tflite"
        return Timing(fit.constants, find_machine(board), precision, "fitted", why, fit.worst, lite_only=lite_only)
    if board.like is not None:
        return _scale_timing(board, find_board(board.like), precision)
    return _time_by_other_networks(board, precision) if board.engine == "trt" else None


def _time_by_other_networks(board: Board, precision: str) -> Timing | None:
    faster, base = estimate_speed_up(board.name), _find_timing(find_board(BASE), precision)
    if faster is None or base is None:
        return None
    why = (
        f"no figure of this family: taken to be {faster.middle:.1f} times as fast as {find_board(BASE).title}, as "
        f"{len(SAME_BLOCKS)} networks of the same blocks are (all networks: {faster.slowest:.1f} to "
        f"{faster.fastest:.1f}, the band). There: {base.why}"
    )
    factor = (1 / faster.fastest, 1 / faster.middle, 1 / faster.slowest)
    return Timing(base.constants, base.machine, precision, "extrapolated", why, base.error, factor)


def _scale_timing(board: Board, like: Board, precision: str) -> Timing | None:
    base = _find_timing(like, precision)
    if base is None:
        return None
    ratio, error = compute_scaled_ratio(board, like), compute_scaling_error()
    why = (
        f"nothing published: {like.title} scaled by {ratio:.2f} (the smaller of the data sheets' ratios; off by up to "
        f"{format_percent(error)} where both boards are known). There: {base.why}"
    )
    fast, middle, slow = (value / ratio for value in base.factor)
    return Timing(
        base.constants,
        base.machine,
        precision,
        "extrapolated",
        why,
        base.error + error,
        (fast, middle, slow),
        base.lite_only,
    )


@cache
def compute_scaling_error() -> float:
    """Return how far data-sheet scaling was off at worst, as ln, over pairs of boards that are both known."""
    return max(abs(error) for pair in SCALED_PAIRS for error in compute_scaling_errors(*pair))


def compute_scaling_errors(faster: str, like: str) -> list[float]:
    """Return ln(scaled / published) of each latency that is known on both boards.

    Jetsons: networks of our blocks. Raspberry Pi: our own family.
    """
    known = read_boards()
    ratio = compute_scaled_ratio(known[faster], known[like])
    if known[like].engine == "trt":
        pairs = [(read_other_networks()[name][like], read_other_networks()[name][faster]) for name in SAME_BLOCKS]
    else:
        theirs, ours = (
            {(item.variant, item.precision, item.threads): item.ms for item in read_figures() if item.board == name}
            for name in (like, faster)
        )
        pairs = [(theirs[key], ms) for key, ms in ours.items() if key in theirs]
    return [math.log(ms_like / ratio / ms) for ms_like, ms in pairs]


def _time_trt_int8(base: Timing) -> Timing:
    fast, middle, slow = base.factor
    least, likely, most = TRT_INT8
    sample = "NVIDIA's D0 sample: another GPU, and TensorRT chose each layer's precision; 1.0 at the slow end"
    why = f"INT8: FP16 x {likely:.2f} ({sample}). FP16: {base.why}"
    return Timing(
        base.constants,
        base.machine,
        base.precision,
        "extrapolated",
        why,
        base.error,
        (fast * least, middle * likely, slow * most),
    )


@dataclass(frozen=True)
class Choice:
    """The model to take.

    best:      None where nothing fits; certain: whether it fits at the slow end of its band, too.
    runner_up: the most accurate one of another variant that fits.
    nearest:   the fastest one, for where nothing fits.
    """

    best: Estimate | None
    certain: bool
    runner_up: Estimate | None
    nearest: Estimate


def judge_fit(row: Estimate, budget_ms: float, ram_gb: float | None) -> str:
    """Return whether it fits: "yes", "likely", "unlikely", "no" or "memory".

    "yes" also at the slow end, "likely" by the middle, "unlikely" at the fast end only. "memory": the board's memory
    does not hold it; where that is not known (None), nothing is said of it.
    """
    if ram_gb is not None and row.memory_mb + SYSTEM_MB > 1024 * ram_gb:
        return "memory"
    for word, ms in (("yes", row.high_ms), ("likely", row.ms), ("unlikely", row.low_ms)):
        if ms <= budget_ms:
            return word
    return "no"


def choose(rows: Sequence[Estimate], budget_ms: float, ram_gb: float | None) -> Choice:
    """Return the most accurate row that fits even at its slow end, or, where none does, that fits by its middle.

    Equal accuracy: the faster. Rows without a published AP come last, in the order of their variants' own sizes. The
    runner-up is the most accurate of the other variants that fit or are likely to: it may be more accurate than the
    best one, and less sure. ``nearest`` is the fastest row that the memory holds.
    """
    words = {id(row): judge_fit(row, budget_ms, ram_gb) for row in rows}

    def most_accurate(candidates: Iterable[Estimate]) -> list[Estimate]:
        return sorted(candidates, key=_by_accuracy, reverse=True)

    sure = most_accurate(row for row in rows if words[id(row)] == "yes")
    likely = most_accurate(row for row in rows if words[id(row)] == "likely")
    best = next(iter(sure or likely), None)
    others = most_accurate(row for row in sure + likely if best is not None and row.variant != best.variant)
    runner_up = next((row for row in others), None)
    held = [row for row in rows if words[id(row)] != "memory"] or list(rows)
    return Choice(best, bool(sure), runner_up, min(held, key=lambda row: row.ms))


def _by_accuracy(row: Estimate) -> tuple[bool, float, float]:
    known = row.ap.value is not None
    ap = row.ap.value if known else find_accuracy(row.variant, find_own_side(row.variant), row.precision).value
    return known, ap or 0.0, -row.ms


def format_percent(log_error: float) -> str:
    """Return an error given as ln in words: 0.1 is 11 %."""
    return f"{100 * (math.exp(log_error) - 1):.0f} %"
