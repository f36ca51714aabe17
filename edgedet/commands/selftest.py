"""``edgedet selftest --board``: build, judge and measure on a board; one JSON file that its owner can send."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ..board.selftest import SUSTAINED_S, figures_of, run_steps
from ..board.tune import INT8_SUFFIX
from ..engines.tensorrt.onnx_head import read_onnx
from ..errors import InputError, PartialFailure, require
from ..files import write_json
from .run import EXPORTS

DESCRIPTION = (
    "Show that edgedet works on this board: build an engine, judge it, run it, and write one JSON file to send with a "
    "report (no paths, no host name). Takes as long as `edgedet build`, and a minute."
)
EXAMPLE = """  edgedet selftest --board efficientdet_d0_street_int8.onnx
  edgedet selftest --board --seconds 600 --json orin-nano.json"""
DEFAULT_JSON = "edgedet-selftest.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet selftest``."""
    parser.add_argument("--board", action="store_true", help="test TensorRT on this board (the only test there is)")
    parser.add_argument(
        "model", nargs="?", type=Path, metavar="ONNX", help=f"NAME_int8.onnx (default: the newest in {EXPORTS}/)"
    )
    parser.add_argument(
        "--seconds", type=float, default=SUSTAINED_S, help="how long frames are run at a stretch (default: %(default)s)"
    )
    parser.add_argument(
        "--json", default=DEFAULT_JSON, metavar="FILE", help="result to write; - for stdout (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the steps, print a line each, and write the result; raises PartialFailure where a claim does not hold."""
    if not args.board:
        raise InputError("nothing to test: `edgedet selftest --board NAME_int8.onnx` tests TensorRT on this board.")
    if not 0 <= args.seconds < float("inf"):
        raise InputError(f"--seconds wants a number from 0 up; got {args.seconds}.")
    onnx = args.model or _newest()
    read_onnx(onnx)
    require("cv2", "edgedet selftest")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        name = onnx.stem[: -len(INT8_SUFFIX)] if onnx.stem.endswith(INT8_SUFFIX) else onnx.stem
        for path in (*onnx.parent.glob(f"{name}*.onnx"), *onnx.parent.glob(f"{name}*.table.json")):
            (work / path.name).symlink_to(path.resolve())
        steps = run_steps(work / onnx.name, (work / onnx.name).with_suffix(".engine"), args.seconds, print)
    write_json(args.json, figures_of(steps))
    failed = [step.name for step in steps if not step.ok]
    if args.json != "-":
        print(f"wrote {args.json}: please send it with a report, also where a step failed")
    if failed:
        raise PartialFailure(f"{len(failed)} of {len(steps)} steps failed: {', '.join(failed)}.")
    return 0


def _newest() -> Path:
    found = sorted(EXPORTS.glob(f"*{INT8_SUFFIX}.onnx"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(
            f"no model was named and {EXPORTS}/ holds no *{INT8_SUFFIX}.onnx: run `edgedet export --phi 0 --int8 "
            f"--weights demo` on a PC and copy {EXPORTS}/ here."
        )
    return found[-1]
