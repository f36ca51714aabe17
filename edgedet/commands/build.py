"""``edgedet build``: ONNX file -> TensorRT engine on the board that will run it; the table and the exit code."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Optional, TextIO

from .. import __version__
from ..board.tune import HEADER, RUNS, Trial, build_best, recipes, reference_of
from ..engines.tensorrt.board import Board, import_tensorrt, this_board
from ..engines.tensorrt.build import check_int8, file_for, logger, options_for
from ..engines.tensorrt.cuda import open_cuda
from ..errors import InputError, require
from ..files import sha256_of, write_json
from ..postprocess import DEFAULT_SCORE, logit_of

DESCRIPTION = (
    "Build a TensorRT engine from an ONNX file, on the board that will run it: an INT8 file in several ways, of which "
    "the fastest is kept that still finds what the ONNX file finds. Not yet tried on a board (docs/jetson.md)."
)
EXAMPLE = """  edgedet build efficientdet_d0_street_int8.onnx
  edgedet build my_int8.onnx --source scene.mp4 --json
  edgedet build my.onnx --fp16 -o my.engine"""
_SUFFIXES = (".engine", ".plan")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet build``."""
    parser.add_argument("model", type=Path, metavar="ONNX", help="NAME_int8.onnx or NAME.onnx of `edgedet export`")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="engine to write (default: NAME.engine)")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--tune", action="store_true", default=True, help="try an INT8 file in several ways, keep the best (default)"
    )
    ways.add_argument("--no-tune", dest="tune", action="store_false", help="build it as it is written, in one way only")
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument(
        "--fp16", dest="precision", action="store_const", const="fp16", help="in FP16 (default for float files)"
    )
    precision.add_argument("--fp32", dest="precision", action="store_const", const="fp32", help="in FP32")
    parser.add_argument("--source", metavar="X", help="frames to judge on: video, folder, camera (default: the demo's)")
    parser.add_argument(
        "--score", type=float, default=DEFAULT_SCORE, help="score to judge at, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="keep an engine whose accuracy could not be judged")
    parser.add_argument("--workspace", type=int, metavar="MB", help="scratch memory (default: by what is free)")
    parser.add_argument(
        "--low-memory", action="store_true", help="try fewer kernels (default on boards with less than 5 GB)"
    )
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the figures as JSON to FILE, or to stdout"
    )


def run(args: argparse.Namespace) -> int:
    """Build, judge, time, keep one, and print the table."""
    if args.workspace is not None and args.workspace < 1:
        raise InputError(f"--workspace wants megabytes from 1 up; got {args.workspace}.")
    logit_of(args.score)
    if threading.current_thread() is threading.main_thread():
        signal.signal(
            signal.SIGTERM, signal.default_int_handler
        )  # as Ctrl-C: the child and its half-built file go, too
    text = sys.stderr if args.json == "-" else sys.stdout
    figures = build_model(
        args.model, args.out, args.precision, args.tune, args.source, args.score, args.force, args.workspace,
        args.low_memory, text,
    )  # fmt: skip
    write_json(args.json, figures)
    return 0


def build_model(
    model: Path,
    out: Optional[Path] = None,
    precision: Optional[str] = None,
    tune: bool = True,
    source: Optional[str] = None,
    score: float = DEFAULT_SCORE,
    force: bool = False,
    workspace_mb: Optional[int] = None,
    low_memory: bool = False,
    text: TextIO = sys.stdout,
) -> Dict[str, Any]:
    """Build an engine as ``edgedet build`` does; return its figures.

    Raises an EdgeDetError where nothing could be built, VerificationError where nothing passed.
    """
    out = out or model.with_suffix(".engine")
    if out.suffix.lower() not in _SUFFIXES:
        raise InputError(f"an engine's name ends in .engine: wanted -o NAME.engine, got {out}.")
    trt = import_tensorrt("edgedet build")
    require("cv2", "edgedet build")
    board = _board(trt)
    onnx = file_for(trt, model)
    if onnx.meta.precision == "int8" and precision is None:
        check_int8(trt, trt.Builder(logger(trt)))
    options = options_for(board, workspace_mb, low_memory)
    tried = recipes(onnx, precision, tune)
    print(f"{board.identity.line()}, workspace {options.workspace_bytes >> 20} MB", file=text)
    reference = reference_of(onnx, source, score, force)
    print(f"judged against {reference.name} on {len(reference.frames)} frames, {RUNS} runs each\n{HEADER}", file=text)
    trials = build_best(trt, board, tried, options, reference, out, force, lambda line: print(line, file=text))
    print(f"wrote {out}: {_kept(trials).recipe}, {out.stat().st_size / 1e6:.1f} MB", file=text)
    return {
        "edgedet": __version__,
        "board": board.identity.to_dict(),
        "onnx": str(onnx.path),
        "onnx_sha256": onnx.sha256,
        "engine": str(out),
        "engine_sha256": sha256_of(out),
        "workspace_bytes": options.workspace_bytes,
        "low_memory": options.low_memory,
        "judged_by": reference.name,
        "frames": len(reference.frames),
        "score": score,
        "trials": [asdict(trial) for trial in trials],
    }


def _board(trt: Any) -> Board:
    """Describe this machine, and give the GPU's memory back before the build."""
    cuda = open_cuda()
    try:
        return this_board(trt, cuda)
    finally:
        cuda.close()


def _kept(trials: List[Trial]) -> Trial:
    return next(trial for trial in trials if trial.kept)
