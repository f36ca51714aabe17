"""``edgedet plan``: estimate which models fit a board, and print their table and the choice."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..benchmarks.planner.boards import read_boards
from ..benchmarks.planner.plan import PlanRequest, json_from_plan, make_plan
from ..benchmarks.planner.print_plan import print_plan
from ..errors import InputError, require
from ..schemas import write_figures
from .options import add_json, text_stream

DESCRIPTION = (
    "Find the variant, precision and size that fit a board and a time budget, with the latency to expect and how "
    "certain it is."
)
EXAMPLE = """  edgedet plan --board orin-nano --budget-ms 33
  edgedet plan --board raspberry-pi-5 --fps 15 --precision int8 --picture plan.png
  edgedet plan --from bench.json --fps 10"""
INPUTS = ("measured",)
OUTPUTS = ("picture", "json")

PICTURES = (".png", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet plan``."""
    parser.add_argument("--board", metavar="NAME", help=f"one of {', '.join(read_boards())}")
    parser.add_argument(
        "--from",
        dest="measured",
        type=Path,
        metavar="FILE",
        help="plan by the results that `edgedet bench --json FILE` measured on the board itself",
    )
    parser.add_argument("--budget-ms", type=float, metavar="MS", help="milliseconds that a frame may take")
    parser.add_argument("--fps", type=float, metavar="FPS", help="instead of --budget-ms: frames a second to reach")
    parser.add_argument(
        "--other-ms",
        type=float,
        default=0.0,
        metavar="MS",
        help="milliseconds for the rest of a frame's work, such as resizing and drawing, to take off the budget "
        "(default: 0)",
    )
    parser.add_argument(
        "--variant", metavar="A,B", help="plan only these variants, such as d0,lite2 (default: the whole family)"
    )
    parser.add_argument(
        "--precision", metavar="A,B", help="plan only these of fp32, fp16, int8 (default: all that the board has)"
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="N",
        help="input size of NxN pixels instead of the published ones; needs the extra export",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: the board's cores, or those of the measurement)"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw speed against AP as a .png or .svg file")
    add_json(parser, "the plan")


def run(args: argparse.Namespace) -> int:
    """Print the table and the choice; return 0 also where nothing fits, because that is an answer."""
    if args.picture is not None:
        if args.picture.suffix.lower() not in PICTURES:
            raise InputError(f"--picture takes a file ending in {' or '.join(PICTURES)}; got {args.picture}.")
        require("matplotlib", "edgedet plan --picture")
    plan = make_plan(
        PlanRequest(
            board=args.board,
            measured=args.measured,
            budget_ms=args.budget_ms,
            fps=args.fps,
            other_ms=args.other_ms,
            variants=None if args.variant is None else tuple(args.variant.split(",")),
            precisions=None if args.precision is None else tuple(args.precision.lower().split(",")),
            side=args.size,
            threads=args.threads,
        )
    )
    text = text_stream(args.json)
    print_plan(plan, text)
    if args.picture is not None:
        from ..benchmarks.planner.picture import write_picture

        write_picture(plan, args.picture)
        print(f"wrote {args.picture}", file=text)
    write_figures("plan", args.json, json_from_plan(plan))
    return 0
