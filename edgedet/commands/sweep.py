"""``edgedet sweep``: compare candidates, print their table and draw it, and say which file to take."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from ..benchmarks.planner.boards import read_boards
from ..benchmarks.sweep.cells import DONE, FAILED, check_is_there, list_cells
from ..benchmarks.sweep.report import print_sweep, write_sweep_picture
from ..benchmarks.sweep.run_sweep import HERE, SweepRequest, recommend, run_sweep
from ..benchmarks.sweep.trials import Training, check_start
from ..engines.base import check_threads
from ..errors import InputError, PartialFailure, require
from ..schemas import write_figures
from .options import (
    add_json,
    add_labelled_data,
    add_threads,
    add_workers,
    check_at_least,
    cluster_options,
    text_stream,
)

DESCRIPTION = (
    "Find the checkpoint, input size and precision that is best for your pictures: each is exported, its INT8 file "
    "judged, its AP measured on your labels, its latency measured here or estimated for a board. What is finished is "
    "never done twice."
)
EXAMPLE = """  edgedet sweep --weights d0.pth lite0.pth --size 320x320,512x512 --data val.json --calib train/
  edgedet sweep --weights demo tf_efficientdet_lite0 --train train/ --data val.json --calib train/
  edgedet sweep --weights demo --data val.json --precision fp32,int8 --board raspberry-pi-5,orin-nano --budget-ms 50"""
INPUTS = ("weights", "data", "calib", "train")
OUTPUTS = ("picture", "json")
WRITES_INTO = ("out",)
PRECISIONS = ("fp32", "int8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet sweep``."""
    parser.add_argument(
        "--weights",
        nargs="+",
        required=True,
        metavar="FILE",
        help="checkpoints, or demo; with --train also names of models, such as tf_efficientdet_lite0",
    )
    parser.add_argument(
        "--size", metavar="HxW,...", help="input sizes in pixels, such as 384x640,512x512 (default: the model's own)"
    )
    parser.add_argument("--precision", default="fp32,int8", metavar="A,B", help="fp32, int8 (default: %(default)s)")
    parser.add_argument("--classes", metavar="A,B", help="keep only these classes (default: all)")
    add_labelled_data(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N labelled images only")
    parser.add_argument("--calib", metavar="SRC", help="frames for INT8, as `edgedet export` takes them")
    parser.add_argument(
        "--frames", type=int, default=64, metavar="N", help="frames for INT8 at most (default: %(default)s)"
    )
    parser.add_argument(
        "--board",
        metavar="A,B",
        help=f"estimate the latency on these instead of measuring it here: {', '.join(read_boards())}",
    )
    parser.add_argument("--budget-ms", type=float, metavar="MS", help="milliseconds that a frame may take")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("edgedet-out/sweep"),
        metavar="DIR",
        help="folder for the files and the finished results (default: %(default)s)",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw AP over milliseconds as a .png or .svg file")
    train = parser.add_argument_group("make the checkpoints first, by `edgedet train`, from --weights at each --size")
    train.add_argument("--train", type=Path, metavar="X", help="labels to learn from; those of --data judge only")
    train.add_argument("--train-images", type=Path, metavar="DIR", help="folder of the images of --train")
    train.add_argument(
        "--epochs", type=int, metavar="N", help=f"times through its pictures (default: {Training.epochs})"
    )
    train.add_argument("--batch", type=int, metavar="N", help=f"pictures of each step (default: {Training.batch})")
    add_threads(parser)
    add_workers(parser)
    add_json(parser, "all results")


def run(args: argparse.Namespace) -> int:
    """Run what is missing, print the table and what to take; raises PartialFailure where candidates failed."""
    if args.data is None:
        raise InputError("nothing to measure AP on: name --data FILE.json (COCO) or --data FOLDER (Pascal VOC, YOLO).")
    if args.budget_ms is not None and not 0 < args.budget_ms < float("inf"):
        raise InputError(f"--budget-ms wants milliseconds above 0; got {args.budget_ms}.")
    check_at_least("--limit", args.limit, 1)
    check_at_least("--frames", args.frames, 1)
    check_at_least("--threads", args.threads, 1)
    check_threads(args.threads)
    precisions = args.precision.lower().split(",")
    for precision in precisions:
        if precision not in PRECISIONS:
            raise InputError(f"--precision takes {', '.join(PRECISIONS)}; got {precision!r}.")
    if args.picture is not None:
        if args.picture.suffix.lower() not in (".png", ".svg"):
            raise InputError(f"--picture takes a file ending in .png or .svg; got {args.picture}.")
        require("matplotlib", "edgedet sweep --picture")
    for module in ("torch", "onnx", "pycocotools", "tqdm"):
        require(module, "edgedet sweep")
    from ..export.checkpoints.checkpoint import parse_size

    sizes = [None] if args.size is None else [parse_size(part) for part in args.size.split(",")]
    classes = None if args.classes is None else tuple(args.classes.split(","))
    boards = () if args.board is None else tuple(args.board.split(","))
    training = _training(args)
    check = check_is_there if training is None else check_start
    text = text_stream(args.json)
    request = SweepRequest(
        cells=tuple(list_cells(args.weights, sizes, precisions, classes, check)),
        data=args.data,
        images=args.images,
        out=args.out,
        calib=args.calib,
        frames=args.frames,
        limit=args.limit,
        boards=boards,
        threads=args.threads,
        cluster=cluster_options(args.workers, args.ray, args.threads),
        training=training,
    )
    rows = run_sweep(request, lambda line: print(line, file=text, flush=True))
    shown = boards or (HERE,)
    print_sweep(rows, shown, args.budget_ms, text)
    if args.picture is not None:
        write_sweep_picture(rows, shown, args.budget_ms, args.picture)
        print(f"wrote {args.picture}", file=text)
    best = {board: recommend(rows, board, args.budget_ms) for board in shown}
    write_figures(
        "sweep",
        args.json,
        {
            "candidates": [asdict(row) for row in rows],
            "take": {board: None if row is None else row.result.file for board, row in best.items()},
        },
    )
    failures = [f"{row.result.name}: {row.result.reason}" for row in rows if row.result.status == FAILED]
    if failures and not any(row.result.status == DONE for row in rows):
        raise InputError(f"no candidate could be made: {'; '.join(failures)}.")
    if failures:
        raise PartialFailure(f"{len(failures)} of {len(rows)} candidates failed: {'; '.join(failures)}.")
    return 0


def _training(args: argparse.Namespace) -> Training | None:
    if args.train is None:
        for option in ("train_images", "epochs", "batch"):
            if getattr(args, option) is not None:
                raise InputError(f"--{option.replace('_', '-')} goes with --train: add it, or leave the option out.")
        return None
    check_at_least("--epochs", args.epochs, 1)
    check_at_least("--batch", args.batch, 1)
    if not args.train.exists():
        raise InputError(f"--train {args.train}: there is no such file or folder.")
    return Training(args.train, args.train_images, args.epochs or Training.epochs, args.batch or Training.batch)
