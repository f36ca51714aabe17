"""``edgedet plan``: options to a table of what fits on a board; the JSON and the exit code."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from .. import __version__
from ..benchmarks.planner.boards import OFFICIAL, board_for, boards
from ..benchmarks.planner.costs import MORE_SIZES, VARIANTS, own_side, variant_of
from ..benchmarks.planner.estimate import Choice, Estimate, choose, estimate, fit_word, planned_precisions
from ..benchmarks.planner.measured import estimate_from, own_board, timing_from
from ..errors import InputError, require
from ..files import write_json

DESCRIPTION = "Say which variant, precision and size fits a board and a time budget, how fast it should be, how surely."
EXAMPLE = """  edgedet plan --board orin-nano --budget-ms 33
  edgedet plan --board raspberry-pi-5 --fps 15 --precision int8 --picture plan.png
  edgedet plan --from bench.json --fps 10"""

SCHEMA = 1
PICTURES = (".png", ".svg")
LINE = 110


@dataclass(frozen=True)
class Plan:
    """What was asked, and the answer.

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
        return fit_word(row, self.budget_ms, self.ram_gb)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet plan``."""
    parser.add_argument("--board", metavar="NAME", help=f"one of {', '.join(boards())}")
    parser.add_argument(
        "--from", dest="measured", type=Path, metavar="FILE",
        help="plan with what `edgedet bench --json FILE` measured on the board itself",
    )  # fmt: skip
    parser.add_argument("--budget-ms", type=float, metavar="MS", help="milliseconds that a frame may take")
    parser.add_argument("--fps", type=float, help="or: frames a second to be reached")
    parser.add_argument(
        "--other-ms", type=float, default=0.0, metavar="MS",
        help="what a frame costs besides the network, such as resizing and drawing; off the budget (default: 0)",
    )  # fmt: skip
    parser.add_argument("--variant", metavar="A,B", help="only these, such as d0,lite2 (default: the whole family)")
    parser.add_argument("--precision", metavar="A,B", help="only these of fp32, fp16, int8 (default: all of the board)")
    parser.add_argument(
        "--size", type=int, metavar="N", help="NxN pixels instead of the published sizes; needs the extra export"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: the board's cores, or what was measured)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write speed against AP as .png or .svg")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write it as JSON to FILE, or to stdout")


def run(args: argparse.Namespace) -> int:
    """Print the table and the choice; 0 also where nothing fits, because that is an answer."""
    budget_ms = _budget_ms(args)
    if (args.board is None) == (args.measured is None):
        raise InputError(f"name either --board or --from FILE; boards: {', '.join(boards())}.")
    if args.picture is not None:
        if args.picture.suffix.lower() not in PICTURES:
            raise InputError(f"--picture takes a file ending in {' or '.join(PICTURES)}; got {args.picture}.")
        require("matplotlib", "edgedet plan --picture")
    plan = _plan_of_board(args, budget_ms) if args.board is not None else _plan_from(args, budget_ms)
    text = sys.stderr if args.json == "-" else sys.stdout
    print_plan(plan, text)
    if args.picture is not None:
        from ..benchmarks.planner.picture import write_picture

        write_picture(plan, args.picture)
        print(f"wrote {args.picture}", file=text)
    write_json(args.json, figures_of(plan))
    return 0


def _budget_ms(args: argparse.Namespace) -> float:
    """Return what is left for the network; raises InputError for missing, double or impossible budgets."""
    if (args.budget_ms is None) == (args.fps is None):
        raise InputError("say how fast it must be, in one way: --fps 30, or --budget-ms 33.")
    for option, value in (("--budget-ms", args.budget_ms), ("--fps", args.fps)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{option} wants a number above 0; got {value:g}.")
    if not 0 <= args.other_ms < float("inf"):
        raise InputError(f"--other-ms wants a number from 0 up; got {args.other_ms:g}.")
    budget = float(args.budget_ms) if args.fps is None else 1e3 / float(args.fps)
    if args.other_ms >= budget:
        raise InputError(f"--other-ms {args.other_ms:g} leaves nothing of a budget of {budget:.1f} ms.")
    return budget - float(args.other_ms)


def _plan_of_board(args: argparse.Namespace, budget_ms: float) -> Plan:
    board = board_for(args.board)
    threads = board.cores if args.threads is None else args.threads
    if not 1 <= threads <= board.cores:
        what = "a GPU, which takes no other number" if board.engine == "trt" else f"the board has {board.cores} cores"
        raise InputError(f"--threads wants a number from 1 to {board.cores} ({what}); got {threads}.")
    rows = [
        estimate(board, variant, side, precision, threads)
        for precision in _chosen(args.precision, planned_precisions(board))
        for variant, side in _models(args)
    ]
    choice = choose(rows, budget_ms, board.ram_gb)
    return Plan(
        board.title, board.name, None, board.ram_gb, threads, budget_ms, args.other_ms, rows, choice, board.notes
    )


def _plan_from(args: argparse.Namespace, budget_ms: float) -> Plan:
    own = own_board(args.measured, args.threads)
    groups = own.groups()
    known = list(dict.fromkeys(precision for _, precision in groups))
    wanted = _chosen(args.precision, known)
    rows = []
    for engine, precision in groups:
        if precision in wanted:
            timing = timing_from(own, engine, precision)
            rows += [estimate_from(own, timing, variant, side) for variant, side in _models(args)]
    choice = choose(rows, budget_ms, None)
    notes = [f"left out: {reason}" for reason in own.left_out]
    return Plan(
        own.device, None, str(args.measured), None, own.rows[0].threads, budget_ms, args.other_ms, rows, choice, notes
    )


def _models(args: argparse.Namespace) -> list[tuple[str, int]]:
    """Return variants and sides."""
    names = VARIANTS if args.variant is None else dict.fromkeys(variant_of(name) for name in args.variant.split(","))
    if args.size is not None:
        return [(name, args.size) for name in names]
    return [(name, side) for name in names for side in (own_side(name), *MORE_SIZES.get(name, ()))]


def _chosen(text: str | None, known: Sequence[str]) -> list[str]:
    wanted = list(known) if text is None else list(dict.fromkeys(text.lower().split(",")))
    for precision in wanted:
        if precision not in known:
            raise InputError(f"--precision takes {', '.join(known)} here; got {precision!r}.")
    return wanted


def print_plan(plan: Plan, text: TextIO) -> None:
    """Print the table, what its rows rest on, and the choice."""
    memory = "" if plan.ram_gb is None else f", {plan.ram_gb:g} GB"
    threads = "" if all(row.engine == "trt" for row in plan.rows) else f", {plan.threads} threads"
    print(f"{plan.title}{memory}{threads}: {plan.budget_ms:.1f} ms for the network ({_fps(plan.budget_ms)})", file=text)
    print("", file=text)
    print("model     size  precision    ms     band             fits       AP    MB   basis", file=text)
    whys = list(dict.fromkeys(row.why for row in plan.rows))
    for row in sorted(plan.rows, key=lambda row: (row.engine, row.precision, row.ms)):
        band = f"{_ms(row.low_ms)} to {_ms(row.high_ms)}"
        print(
            f"{row.variant:<8}{row.side:>6}  {row.precision:<5}{row.engine:<6}{_ms(row.ms):>7}  {band:<16} "
            f"{plan.fits(row):<9}{_ap(row):>5} {row.memory_mb:>6.0f}   {row.basis} ({whys.index(row.why) + 1})",
            file=text,
        )
    print("", file=text)
    for number, why in enumerate(whys, 1):
        _wrapped(f"({number}) {why}.", text)
    for note in dict.fromkeys(row.ap.note for row in plan.rows if row.ap.note != OFFICIAL):
        _wrapped(f"AP: {note}.", text)
    for note in plan.notes:
        _wrapped(f"note: {note}.", text)
    print("", file=text)
    _wrapped(choice_in_words(plan), text)


def choice_in_words(plan: Plan) -> str:
    """Return the best choice and the runner-up, or what comes nearest."""
    choice = plan.choice
    if choice.best is None:
        near = choice.nearest
        return (
            f"Nothing fits {plan.budget_ms:.1f} ms. Nearest: {_model(near)}, {_ms(near.ms)} ms "
            f"({_ms(near.low_ms)} to {_ms(near.high_ms)}), AP {_ap(near)}."
        )
    lines = [f"Best: {_told(choice.best)}{'' if choice.certain else ', likely but not sure'}."]
    if choice.runner_up is not None:
        sure = "" if plan.fits(choice.runner_up) == "yes" else ", likely but not sure: measure it"
        lines.append(f"Runner-up: {_told(choice.runner_up)}{sure}.")
    return " ".join(lines)


def figures_of(plan: Plan) -> dict[str, Any]:
    """Return what ``--json`` writes; docs/planning.md says what each figure means."""
    choice = plan.choice
    return {
        "schema": SCHEMA,
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


def _told(row: Estimate) -> str:
    return (
        f"{_model(row)}, {_ms(row.ms)} ms ({_ms(row.low_ms)} to {_ms(row.high_ms)}, {row.basis}), "
        f"{_fps(row.ms)}, AP {_ap(row)}, {row.memory_mb:.0f} MB"
    )


def _model(row: Estimate) -> str:
    return f"{row.variant} {row.precision} at {row.side}x{row.side} ({row.engine})"


def _ap(row: Estimate) -> str:
    return "-" if row.ap.value is None else f"{row.ap.value:.1f}"


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _fps(ms: float) -> str:
    return f"{1e3 / ms:.1f} FPS" if ms > 20 else f"{1e3 / ms:.0f} FPS"


def _wrapped(line: str, text: TextIO) -> None:
    print("\n".join(textwrap.wrap(line, LINE, subsequent_indent="    ")), file=text)
