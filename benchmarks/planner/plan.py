"""Which models fit a board and a time budget: what was asked, each model's estimate, and the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedet import __version__
from edgedet.benchmarks.planner.boards import find_board, read_boards
from edgedet.benchmarks.planner.costs import MORE_SIZES, VARIANTS, find_own_side, shorten_variant
from edgedet.benchmarks.planner.estimate import Choice, Estimate, choose, estimate, judge_fit, list_precisions
from edgedet.benchmarks.planner.measured import estimate_from, read_own_board, timing_from
from edgedet.engines.table import engine_named
from edgedet.errors import InputError


@dataclass(frozen=True)
class PlanRequest:
    """What is asked: exactly one of ``board`` and ``measured``, exactly one of ``budget_ms`` and ``fps``.

    board:      name of a board.
    measured:   file that ``edgedet bench --json FILE`` wrote on the board itself.
    budget_ms:  milliseconds that a frame may take; ``fps``: frames a second to be reached.
    other_ms:   what a frame costs besides the network.
    variants:   names such as "d0", "lite2"; None: the whole family.
    precisions: of fp32, fp16, int8; None: all of the board.
    side:       of square pictures, in pixels; None: the published sizes.
    threads:    None: the board's cores, or what was measured.
    """

    board: str | None = None
    measured: Path | None = None
    budget_ms: float | None = None
    fps: float | None = None
    other_ms: float = 0.0
    variants: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    side: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Plan:
    """The answer.

    title:     of the board, or of the measured machine.
    ram_gb:    None where it is not known.
    budget_ms: what the network may take: the frame's budget without what else a frame costs.
    notes:     what one should know of the board.
    """

    title: str
    board: str | None
    measured: str | None
    ram_gb: float | None
    threads: int
    budget_ms: float
    other_ms: float
    rows: Sequence[Estimate]
    choice: Choice
    notes: Sequence[str]

    def fits(self, row: Estimate) -> str:
        """Return "yes", "likely", "unlikely", "no" or "memory"."""
        return judge_fit(row, self.budget_ms, self.ram_gb)


def make_plan(request: PlanRequest) -> Plan:
    """Estimate each model that was asked for, and choose; raises InputError for a request that cannot be met."""
    budget_ms = _network_budget_ms(request)
    if request.board is not None and request.measured is None:
        return _plan_for_board(request, request.board, budget_ms)
    if request.measured is not None and request.board is None:
        return _plan_from_measured(request, request.measured, budget_ms)
    raise InputError(f"name either --board or --from FILE; boards: {', '.join(read_boards())}.")


def _network_budget_ms(request: PlanRequest) -> float:
    """Return what is left for the network; raises InputError for missing, double or impossible budgets."""
    if (request.budget_ms is None) == (request.fps is None):
        raise InputError("say how fast it must be, in one way: --fps 30, or --budget-ms 33.")
    for option, value in (("--budget-ms", request.budget_ms), ("--fps", request.fps)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{option} wants a number above 0; got {value:g}.")
    if not 0 <= request.other_ms < float("inf"):
        raise InputError(f"--other-ms wants a number from 0 up; got {request.other_ms:g}.")
    budget_ms = 1e3 / request.fps if request.fps is not None else float(request.budget_ms or 0.0)
    if request.other_ms >= budget_ms:
        raise InputError(f"--other-ms {request.other_ms:g} leaves nothing of a budget of {budget_ms:.1f} ms.")
    return budget_ms - request.other_ms


def _plan_for_board(request: PlanRequest, name: str, budget_ms: float) -> Plan:
    board = find_board(name)
    threads = board.cores if request.threads is None else request.threads
    if not 1 <= threads <= board.cores:
        on_gpu = engine_named(board.engine).hardware == "GPU"
        limit = "a GPU, which takes no other number" if on_gpu else f"the board has {board.cores} cores"
        raise InputError(f"--threads wants a number from 1 to {board.cores} ({limit}); got {threads}.")
    rows = [
        estimate(board, variant, side, precision, threads)
        for precision in _precisions(request, list_precisions(board))
        for variant, side in _models(request)
    ]
    return Plan(
        title=board.title,
        board=board.name,
        measured=None,
        ram_gb=board.ram_gb,
        threads=threads,
        budget_ms=budget_ms,
        other_ms=request.other_ms,
        rows=rows,
        choice=choose(rows, budget_ms, board.ram_gb),
        notes=board.notes,
    )


def _plan_from_measured(request: PlanRequest, path: Path, budget_ms: float) -> Plan:
    own = read_own_board(path, request.threads)
    groups = own.groups()
    precisions = _precisions(request, list(dict.fromkeys(precision for _, precision in groups)))
    rows = []
    for engine, precision in groups:
        if precision in precisions:
            timing = timing_from(own, engine, precision)
            rows += [estimate_from(own, timing, variant, side) for variant, side in _models(request)]
    return Plan(
        title=own.device,
        board=None,
        measured=str(path),
        ram_gb=None,
        threads=own.rows[0].threads,
        budget_ms=budget_ms,
        other_ms=request.other_ms,
        rows=rows,
        choice=choose(rows, budget_ms, None),
        notes=[f"left out: {reason}" for reason in own.left_out],
    )


def _models(request: PlanRequest) -> list[tuple[str, int]]:
    """Return variants and the sides of their pictures."""
    names = VARIANTS if request.variants is None else tuple(dict.fromkeys(map(shorten_variant, request.variants)))
    if request.side is not None:
        return [(name, request.side) for name in names]
    return [(name, side) for name in names for side in (find_own_side(name), *MORE_SIZES.get(name, ()))]


def _precisions(request: PlanRequest, known: Sequence[str]) -> list[str]:
    chosen = list(known) if request.precisions is None else list(dict.fromkeys(request.precisions))
    for precision in chosen:
        if precision not in known:
            raise InputError(f"--precision takes {', '.join(known)} here; got {precision!r}.")
    return chosen


def json_from_plan(plan: Plan) -> dict[str, Any]:
    """Return what ``--json`` writes; docs/planning.md says what each figure means."""
    choice = plan.choice
    return {
        "edgedet": __version__,
        "title": plan.title,
        "board": plan.board,
        "measured": plan.measured,
        "ram_gb": plan.ram_gb,
        "threads": plan.threads,
        "budget_ms": plan.budget_ms,
        "other_ms": plan.other_ms,
        "notes": list(plan.notes),
        "best": None if choice.best is None else _row_figures(plan, choice.best),
        "runner_up": None if choice.runner_up is None else _row_figures(plan, choice.runner_up),
        "nearest": _row_figures(plan, choice.nearest),
        "rows": [_row_figures(plan, row) for row in plan.rows],
    }


def _row_figures(plan: Plan, row: Estimate) -> dict[str, Any]:
    return {
        "variant": row.variant,
        "input_hw": [row.side, row.side],
        "precision": row.precision,
        "engine": row.engine,
        "ms": round(row.ms, 3),
        "low_ms": round(row.low_ms, 3),
        "high_ms": round(row.high_ms, 3),
        "fits": plan.fits(row),
        "basis": row.basis,
        "why": row.why,
        "memory_mb": round(row.memory_mb, 1),
        "ap": None if row.ap.value is None else round(row.ap.value, 2),
        "ap_note": row.ap.note,
    }
