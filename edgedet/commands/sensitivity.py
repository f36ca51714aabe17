"""``edgedet sensitivity``: measure which layers lose the most accuracy in INT8. Imports torch when it runs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ..errors import InputError, require
from ..export.int8.sensitivity import Sensitivity, SensitivityOptions, measure_sensitivity
from ..postprocess import logit_of
from ..schemas import write_figures
from .options import add_json, add_scene, add_score, add_threads, text_stream

DESCRIPTION = (
    "Measure how much each layer loses when it alone is INT8: for every layer the signal-to-noise ratio at the "
    "outputs, and for the worst ten also the detections."
)
EXAMPLE = """  edgedet sensitivity edgedet-out/my.onnx --calib scene.mp4
  edgedet sensitivity edgedet-out/my.onnx --calib scene.mp4 --picture layers.png --json layers.json"""
INPUTS = ("model", "calib")
OUTPUTS = ("picture", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet sensitivity``."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="float .onnx file that edgedet export wrote")
    add_scene(parser, 64)
    parser.add_argument(
        "--passes",
        type=int,
        default=4,
        metavar="N",
        help="number of frames on which every layer is measured (default: %(default)s)",
    )
    parser.add_argument(
        "--worst",
        type=int,
        default=10,
        metavar="N",
        help="compare also the detections for the N worst layers (default: %(default)s)",
    )
    add_score(parser, "compare detections that score at least S, 0 to 1")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the layers' losses to a .png or .svg file")
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, and print the worst layers."""
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
    options = SensitivityOptions(args.model, args.calib, args.frames, args.passes, args.worst, args.score, args.threads)
    result = measure_sensitivity(options, lambda line: print(line, file=sys.stderr))
    _print(options, result, args.json)
    if args.picture is not None:
        from ..calibration.recovery.sensitivity_picture import draw_losses

        draw_losses(result.losses, args.picture)
        print(f"drew {args.picture}", file=text_stream(args.json))
    write_figures(
        "sensitivity", args.json, {"model": str(options.model), "layers": [asdict(loss) for loss in result.losses]}
    )
    return 0


def _print(options: SensitivityOptions, result: Sensitivity, json_target: str | None) -> None:
    text = text_stream(json_target)
    print(f"{'layer':<44} {'SQNR, dB':>8} {'MACs, %':>8} {'F1':>7}", file=text)
    for loss in result.losses[: result.verified]:
        f1 = "no boxes" if loss.f1 is None else f"{loss.f1:.4f}"
        print(f"{loss.layer:<44} {loss.sqnr_db:>8.1f} {100 * loss.macs:>8.2f} {f1:>7}", file=text)
    print(
        f"of {len(result.losses)} layers, each alone in INT8; F1 of the detections at {options.score:g} on "
        f"{result.frames} frames against float",
        file=text,
    )
