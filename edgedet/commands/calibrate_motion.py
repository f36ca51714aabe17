"""``edgedet calibrate-motion``: find the thresholds of ``edgedet run --motion`` for a scene."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from ..detector import Detector
from ..errors import InputError
from ..motion.calibrate import Trial, calibrate
from ..runner.models import ModelOptions, open_detectors
from ..schemas import write_figures
from ..stream.progress import Progress
from ..stream.sources import open_source
from .options import add_json, add_score, add_threads, text_stream

DESCRIPTION = (
    "Find the thresholds of `edgedet run --motion` for a scene: how much must change before the model looks at it."
)
EXAMPLE = """  edgedet calibrate-motion door.mp4
  edgedet run --camera 0 --motion 16,0.0005"""
INPUTS = ("source", "model")
OUTPUTS = ("json",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet calibrate-motion``."""
    parser.add_argument(
        "source", metavar="SRC", help="video or camera of the scene: some minutes in which things happen"
    )
    parser.add_argument("--model", metavar="MODEL", help="model file (default: as edgedet run)")
    parser.add_argument(
        "--keep", type=float, default=0.99, metavar="SHARE", help="share of detections to keep (default: %(default)s)"
    )
    parser.add_argument("--frames", type=int, default=600, metavar="N", help="frames to take (default: %(default)s)")
    add_score(parser)
    add_threads(parser)
    add_json(parser)


def _export_demo(folder: Path) -> Path:
    from ..export.export_onnx import export_demo  # host code; it imports torch and onnx when called

    return export_demo(folder)


def _line_of(trial: Trial) -> str:
    return (
        f"keeps {trial.kept:.1%} of the detections of every frame, looks at {trial.looks:.0%} of the frames, "
        f"{trial.squares:.0%} of these in a part of the picture"
    )


def run(args: argparse.Namespace) -> int:
    """Calibrate, print the figures and the option to use."""
    if not 0 < args.keep <= 1:
        raise InputError(f"--keep wants a share above 0, up to 1; got {args.keep:g}.")
    if args.frames < 2:
        raise InputError(f"--frames wants 2 or more; got {args.frames}.")
    out = text_stream(args.json)
    model = ModelOptions(args.model, args.threads, args.score)
    _, detectors = open_detectors(model, True, _export_demo)
    detector: Detector = detectors[0]
    with ExitStack() as held:
        held.callback(detector.close)
        progress = held.enter_context(closing(Progress(sys.stderr)))
        source = held.enter_context(closing(open_source(args.source, lambda: False, say=progress.say)))
        progress.expect(min(args.frames, source.total or args.frames))
        frames = islice(source, args.frames)
        calibration = calibrate(
            frames,
            detector.detect,
            max(detector.meta.spec.input_hw),
            args.keep,
            lambda done: progress.update(done, 0),
        )
    for name, trial in (("chosen", calibration.chosen), ("measured", calibration.measured)):
        print(f"{name}: {_line_of(trial)}", file=out)
    rules = calibration.chosen.rules
    if calibration.measured.kept < args.keep:
        print(f"no numbers keep {args.keep:.1%} of this scene: these keep most", file=out)
    print(f"edgedet run --motion {rules.threshold:g},{rules.min_area:g}", file=out)
    write_figures("calibrate-motion", args.json, {**asdict(calibration), "keep": args.keep})
    return 0
