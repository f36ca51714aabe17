"""``edgedet plan``: options to a table of what fits on a board; the JSON and the exit code."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from edgedet import __version__
from edgedet.benchmarks.plan_boards import Board, board_for, boards
from edgedet.benchmarks.plan_costs import MORE_SIZES, VARIANTS, own_side, variant_of
from edgedet.benchmarks.plan_estimate import (
    Choice,
    Estimate,
    choose,
    estimate,
    fit_word,
    planned_precisions,
)  # fmt: skip
from edgedet.errors import InputError
from edgedet.files import write_json

DESCRIPTION = "Say which variant, precision and size fits a board and a time budget, how fast it should be, how surely."
EXAMPLE = """  edgedet plan --board orin-nano --budget-ms 33
  edgedet plan --board raspberry-pi-5 --fps 15 --precision int8 --picture plan.png
  edgedet plan --from bench.json --fps 10"""

SCHEMA = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet plan``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--board", metavar="NAME", help=f"one of {', '.join(boards())}")
    where.add_argument(
        "--from", dest="measured", type=Path, metavar="FILE", help="`edgedet bench --json FILE` of the board itself"
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--budget-ms", type=float, metavar="MS", help="milliseconds that a frame may take")
    budget.add_argument("--fps", type=float, help="frames a second to be reached")
    parser.add_argument(
        "--other-ms", type=float, default=0.0, metavar="MS",
        help="what a frame costs besides the network: resize, drawing, writing; comes off the budget (default: 0)",
    )  # fmt: skip
    parser.add_argument("--variant", metavar="A,B", help="only these, such as d0,lite2 (default: the whole family)")
    parser.add_argument("--precision", metavar="A,B", help="only these of fp32, fp16, int8 (default: all of the board)")
    parser.add_argument(
        "--size", type=int, metavar="N", help="NxN pixels instead of the published sizes; needs the extra export"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: the board's cores)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write speed against AP as .png or .svg")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write it as JSON to FILE, or to stdout")


def run(args: argparse.Namespace) -> int:
    """Print the table and the choice. Nothing that fits is an answer, too: exit code 0."""
    budget_ms = _budget_ms(args)
    board = board_for(args.board)
    threads = _threads(args.threads, board.cores)
    rows = [
        estimate(board, variant, side, precision, threads)
        for precision in _precisions(args.precision, planned_precisions(board))
        for variant in _variants(args.variant)
        for side in ((args.size,) if args.size else (own_side(variant), *MORE_SIZES.get(variant, ())))
    ]
    choice = choose(rows, budget_ms, board.ram_gb)
    text = sys.stderr if args.json == "-" else sys.stdout
    _print(board, rows, choice, budget_ms, threads, text)
    write_json(args.json, _figures(board, rows, choice, budget_ms, threads))
    return 0


def _budget_ms(args: argparse.Namespace) -> float:
    for option, value in (("--budget-ms", args.budget_ms), ("--fps", args.fps)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{option} wants a number above 0; got {value:g}.")
    if not 0 <= args.other_ms < float("inf"):
        raise InputError(f"--other-ms wants a number from 0 up; got {args.other_ms:g}.")
    if args.budget_ms is None and args.fps is None:
        raise InputError("say how fast it must be: --fps 30, or --budget-ms 33.")
    budget = args.budget_ms if args.fps is None else 1e3 / args.fps
    if args.other_ms >= budget:
        raise InputError(f"--other-ms {args.other_ms:g} leaves nothing of the budget of {budget:.1f} ms.")
    return float(budget) - float(args.other_ms)


def _threads(wanted: int | None, cores: int) -> int:
    if wanted is None:
        return cores
    if not 1 <= wanted <= cores:
        raise InputError(f"--threads wants a number from 1 to {cores}, the board's; got {wanted}.")
    return wanted


def _variants(text: str | None) -> list[str]:
    return list(VARIANTS) if text is None else list(dict.fromkeys(variant_of(name) for name in text.split(",")))


def _precisions(text: str | None, known: list[str]) -> list[str]:
    wanted = known if text is None else list(dict.fromkeys(text.lower().split(",")))
    for precision in wanted:
        if precision not in known:
            raise InputError(f"--precision takes {', '.join(known)} on this board; got {precision}.")
    return wanted


def _print(board: Board, rows: list[Estimate], choice: Choice, budget_ms: float, threads: int, text: TextIO) -> None:
    print(f"{board.title}, {board.engine}, {threads} threads, {board.ram_gb:g} GB; {budget_ms:.1f} ms", file=text)
    for row in rows:
        ap = "-" if row.ap.value is None else f"{row.ap.value:.1f}"
        print(
            f"{row.variant:<7}{row.side:>5}  {row.precision}  {row.ms:>8.1f} ms  {row.low_ms:>7.1f} - {row.high_ms:<8.1f}"
            f"{row.memory_mb:>6.0f} MB  AP {ap:>5}  {fit_word(row, budget_ms, board.ram_gb):<9}{row.basis}",
            file=text,
        )
    print(choice, file=text)


def _figures(board: Board, rows: list[Estimate], choice: Choice, budget_ms: float, threads: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "edgedet": __version__,
        "board": asdict(board),
        "rows": [asdict(row) for row in rows],
    }
