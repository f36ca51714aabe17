"""``edgedet selftest``: build, judge and measure on a board, and write one JSON file that its owner can send."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..board.recipes import INT8_SUFFIX
from ..board.selftest import SUSTAINED_S, figures_of, run_selftest
from ..errors import InputError, PartialFailure
from ..files import MODELS_FOLDER
from ..schemas import write_figures
from .options import text_stream

DESCRIPTION = (
    "Show that edgedet works with TensorRT on this board: build an engine, judge it, run it, and write one JSON file "
    "to send with a report (no paths, no host name). Takes as long as `edgedet build`, and a minute."
)
EXAMPLE = """  edgedet selftest efficientdet_d0_street_int8.onnx
  edgedet selftest --seconds 600 --json orin-nano.json"""
INPUTS = ("model",)
OUTPUTS = ("json",)
DEFAULT_JSON = "edgedet-selftest.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet selftest``."""
    parser.add_argument(
        "model",
        nargs="?",
        type=Path,
        metavar="ONNX",
        help=f"NAME_int8.onnx (default: the newest in {MODELS_FOLDER}/)",
    )
    parser.add_argument(
        "--seconds", type=float, default=SUSTAINED_S, help="how long frames run without a pause (default: %(default)s)"
    )
    parser.add_argument(
        "--json", default=DEFAULT_JSON, metavar="FILE", help="result to write; - for stdout (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the steps, print a line each, and write the result; raises PartialFailure where a claim does not hold."""
    if not 0 <= args.seconds < float("inf"):
        raise InputError(f"--seconds wants a number from 0 up; got {args.seconds}.")
    text = text_stream(args.json)
    steps = run_selftest(args.model or _newest_int8(), args.seconds, lambda line: print(line, file=text))
    write_figures("selftest", args.json, figures_of(steps))
    failed = [step.name for step in steps if not step.ok]
    if args.json != "-":
        print(f"wrote {args.json}: please send it with a report, also where a step failed")
    if failed:
        raise PartialFailure(f"{len(failed)} of {len(steps)} steps failed: {', '.join(failed)}.")
    return 0


def _newest_int8() -> Path:
    models = sorted(MODELS_FOLDER.glob(f"*{INT8_SUFFIX}.onnx"), key=lambda path: path.stat().st_mtime)
    if not models:
        raise InputError(
            f"no model was named and {MODELS_FOLDER}/ holds no *{INT8_SUFFIX}.onnx: run `edgedet export --phi 0 --int8 "
            f"--weights demo` on a PC and copy {MODELS_FOLDER}/ here."
        )
    return models[-1]
