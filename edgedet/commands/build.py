"""``edgedet build``: build a TensorRT engine from an ONNX file, on the board that will run it."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..board.build import BuildRequest, build_model
from ..errors import InputError
from ..postprocess import logit_of
from ..schemas import write_figures
from .options import add_json, add_score, text_stream

DESCRIPTION = (
    "Build a TensorRT engine from an ONNX file, on the board that will run it. An INT8 file is built in several ways, "
    "and of the engines whose detections agree with the ONNX file's the fastest is kept. This was not yet tried on a "
    "board (docs/jetson.md)."
)
EXAMPLE = """  edgedet build efficientdet_d0_street_int8.onnx
  edgedet build my_int8.onnx --source scene.mp4 --json
  edgedet build my.onnx --fp16 -o my.engine"""
INPUTS = ("model", "source")
OUTPUTS = ("out", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet build``."""
    parser.add_argument("model", type=Path, metavar="ONNX", help="NAME_int8.onnx or NAME.onnx of `edgedet export`")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="engine to write (default: NAME.engine)")
    parser.add_argument(
        "--no-tune",
        dest="tune",
        action="store_false",
        help="build an INT8 file only as it is written (default: in several ways, to keep the best)",
    )
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument(
        "--fp16", dest="precision", action="store_const", const="fp16", help="build in FP16 (default for float files)"
    )
    precision.add_argument("--fp32", dest="precision", action="store_const", const="fp32", help="build in FP32")
    parser.add_argument(
        "--source", metavar="X", help="frames for the comparison: video, folder or camera (default: the demo's clip)"
    )
    add_score(parser, "compare detections that score at least S, 0 to 1")
    parser.add_argument(
        "--force", action="store_true", help="keep an engine even if its accuracy could not be measured"
    )
    parser.add_argument(
        "--workspace",
        dest="workspace_mb",
        type=int,
        metavar="MB",
        help="scratch memory for the build (default: a share of the free memory)",
    )
    parser.add_argument(
        "--low-memory",
        action="store_true",
        help="take less memory by trying fewer kernels (default on boards with less than 5 GB)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Build the engines, and print a table that compares them and names the one that is kept."""
    values = dict(vars(args))
    json_target = values.pop("json")
    request = BuildRequest(**values)
    if request.workspace_mb is not None and request.workspace_mb < 1:
        raise InputError(f"--workspace wants megabytes from 1 up; got {request.workspace_mb}.")
    logit_of(request.score)
    text = text_stream(json_target)
    report = build_model(request, lambda line: print(line, file=text))
    write_figures("build", json_target, report.to_dict())
    return 0
