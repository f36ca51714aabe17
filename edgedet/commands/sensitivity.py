"""``edgedet sensitivity``: options to frames and layers; table, picture, JSON. Imports torch when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .. import demo
from ..errors import InputError, require
from ..files import atomic_path, sha256_of, write_json
from ..postprocess import DEFAULT_SCORE, logit_of

if TYPE_CHECKING:
    from ..calibration.recovery.sensitivity import LayerLoss

DESCRIPTION = "Find the layers that lose most in INT8: each alone, by signal to noise; the worst ten by detections."
EXAMPLE = """  edgedet sensitivity edgedet-out/my.onnx --calib scene.mp4
  edgedet sensitivity edgedet-out/my.onnx --calib scene.mp4 --picture layers.png --json layers.json"""
SHOWN = 40  # bars of the picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet sensitivity``."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="float .onnx file that edgedet export wrote")
    parser.add_argument(
        "--calib", metavar="SRC", help="video, folder, image or camera of the scene (default: bundled photographs)"
    )
    parser.add_argument(
        "--frames", type=int, default=64, metavar="N", help="frames to take of it (default: %(default)s)"
    )
    parser.add_argument(
        "--passes",
        type=int,
        default=4,
        metavar="N",
        help="frames that every layer is measured on (default: %(default)s)",
    )
    parser.add_argument(
        "--worst", type=int, default=10, metavar="N", help="layers to verify on detections (default: %(default)s)"
    )
    parser.add_argument(
        "--score", type=float, default=DEFAULT_SCORE, help="score that detections count from (default: %(default)s)"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the layers' losses to a .png or .svg file")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads (default: %(default)s)")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the figures as JSON to FILE, or to stdout"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the worst layers."""
    for module in ("torch", "onnx", "cv2"):
        require(module, "edgedet sensitivity")
    if args.picture is not None:
        require("matplotlib", "edgedet sensitivity --picture")
        if args.picture.suffix not in (".png", ".svg"):
            raise InputError(f"--picture takes a .png or .svg file; got {args.picture}.")
    for option in ("frames", "passes", "worst", "threads"):
        if getattr(args, option) < 1:
            raise InputError(f"--{option} takes a number from 1 on; got {getattr(args, option)}.")
    logit_of(args.score)
    import torch

    from ..calibration.graph.macs import conv_macs
    from ..calibration.quantise import quantise
    from ..calibration.ranges.frames import calibration_frames
    from ..calibration.recovery.sensitivity import Layers, layer_losses, verified
    from ..export.int8.export_int8 import float_model

    torch.set_num_threads(args.threads)
    model, meta = float_model(args.model)
    is_demo = args.calib is None and meta.source_sha256 == sha256_of(demo.WEIGHTS)
    frames = calibration_frames(args.calib, meta.spec, args.frames, is_demo=is_demo)
    for note in frames.notes:
        print(f"edgedet: {note}", file=sys.stderr)
    if not frames.select:
        raise InputError(f"{frames.source} gave too few frames to calibrate and to measure on; give 4 or more.")
    pixels = [frame.pixels for frame in frames.calibrate]
    quantised = quantise(
        model, meta.spec, pixels, meta.source_sha256, progress=lambda step: print(step, file=sys.stderr)
    )
    macs = conv_macs(quantised.model)
    shares = {layer: count / sum(macs.values()) for layer, count in macs.items()}
    layers = Layers(quantised.model, meta.spec, quantised.dense)
    measured = frames.select[:: max(1, len(frames.select) // args.passes)][: args.passes]
    losses = layer_losses(layers, measured, shares)
    worst = verified(layers, frames.select, losses[: args.worst], args.score)
    losses = [*worst, *losses[args.worst :]]
    text = sys.stderr if args.json == "-" else sys.stdout
    print(f"{'layer':<44} {'SQNR, dB':>8} {'MACs, %':>8} {'F1':>7}", file=text)
    for loss in worst:
        f1 = "no boxes" if loss.f1 is None else f"{loss.f1:.4f}"
        print(f"{loss.layer:<44} {loss.sqnr_db:>8.1f} {100 * loss.macs:>8.2f} {f1:>7}", file=text)
    print(
        f"of {len(losses)} layers, each alone in INT8; F1 of the detections at {args.score:g} on {len(frames.select)} "
        "frames against float",
        file=text,
    )
    if args.picture is not None:
        _draw(losses[:SHOWN], args.picture)
        print(f"drew {args.picture}", file=text)
    write_json(args.json, {"model": str(args.model), "layers": [asdict(loss) for loss in losses]})
    return 0


def _draw(losses: list[LayerLoss], path: Path) -> None:
    """Draw a bar for each layer, the worst on top."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.2 * len(losses)), layout="constrained")
    shown = losses[::-1]
    axes.barh([loss.layer for loss in shown], [loss.sqnr_db for loss in shown], color="#2a6f97")
    axes.set_xlabel("signal to quantisation noise at the outputs, dB, with this layer alone in INT8 (shorter is worse)")
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(y=0.01)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=120)
    pyplot.close(figure)
