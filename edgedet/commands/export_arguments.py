"""Declare the options of ``edgedet export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..files import MODELS_FOLDER
from .options import (
    add_class_names,
    add_json,
    add_labelled_data,
    add_scene,
    add_score,
    add_threads,
    add_training,
    add_variant,
    add_workers,
)

# defaults
FRAMES = 128
RECOVERY = "fast"
OBSERVER = "mixed"
KEEP_FLOAT = "stem,backbone_depthwise,se"
MAX_DROP = 1.0


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare all options; ``export_options`` reads them."""
    parser.add_argument("--phi", type=int, metavar="N", help="size of the model: 0 for D0 to 7 for D7, 8 for D7x")
    add_variant(parser)
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="checkpoint (.pth, .h5, .tar.gz, .safetensors), or 'demo': the bundled one (default: official weights)",
    )
    parser.add_argument(
        "--out", type=Path, default=MODELS_FOLDER, metavar="DIR", help="folder to write to (default: %(default)s)"
    )
    parser.add_argument("--name", help="file name without suffix (default: the checkpoint's)")
    add_class_names(parser)
    parser.add_argument(
        "--classes", metavar="A,B", help="keep only these classes, by name, which makes the model faster (default: all)"
    )
    parser.add_argument("--size", metavar="HxW", help="input size in pixels, e.g. 384x640 (default: the model's own)")
    add_training(parser)
    parser.add_argument(
        "--original-nms",
        action="store_true",
        help="select boxes by the rules of the checkpoint's own code base (default: by effdet's rules)",
    )
    parser.add_argument(
        "--top-anchors",
        type=int,
        metavar="N",
        help="let ONNX files give the outputs of the N anchors with the best scores only, at most 3840, so that a GPU "
        "hands over few bytes; 0: of all anchors (default: 3840)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="let ONNX files take up to N pictures at once, for several cameras on one GPU (default: %(default)s)",
    )
    parser.add_argument("--tflite", action="store_true", help="also write NAME.tflite, for ARM boards")
    parser.add_argument(
        "--target", choices=("tensorrt",), help="also build an engine by `edgedet build`, if TensorRT is installed here"
    )
    parser.add_argument(
        "--for",
        dest="targets",
        metavar="NAME[,NAME]",
        help="also write DIR/NAME for another program: onnx-nms, tflite-app, deepstream, triton, frigate",
    )
    _add_int8_arguments(parser.add_argument_group("INT8, with --int8"))
    add_threads(parser)
    add_workers(parser)
    add_json(parser)


def _add_int8_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--int8", action="store_true", help="also write NAME_int8.onnx for TensorRT and NAME_int8.tflite for ARM"
    )
    add_scene(group, FRAMES)
    group.add_argument(
        "--table", type=Path, metavar="FILE", help="use the ranges in NAME_int8.table.json of an earlier export"
    )
    group.add_argument(
        "--recover",
        choices=("none", "fast", "full"),
        default=RECOVERY,
        help="recover accuracy: fast equalises channels and corrects biases, full also rounds weights layer by layer "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--observer",
        default=OBSERVER,
        metavar="NAME",
        help="how ranges are chosen: mixed, mse, minmax or percentile (default: %(default)s, by part of the network)",
    )
    group.add_argument(
        "--keep-float",
        default=KEEP_FLOAT,
        metavar="A,B",
        help="layers that stay float for TensorRT: stem, depthwise, backbone_depthwise, se, fpn, heads, or names "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--revert",
        type=int,
        metavar="N",
        help="put at most N layers back to float if the INT8 model loses too much (default: 16; 0: none)",
    )
    add_labelled_data(group, "labelled pictures, to judge the files by their AP")
    add_score(group, "compare detections that score at least S, 0 to 1")
    group.add_argument(
        "--max-drop",
        type=float,
        default=MAX_DROP,
        metavar="PERCENT",
        help="loss of AP that is allowed, in percent of the float model's (default: %(default)s)",
    )
    group.add_argument("--force", action="store_true", help="keep files whose verdict is UNSURE")
    group.add_argument(
        "--keep-rejected",
        action="store_true",
        help="keep files that did not pass, as NAME.rejected",
    )
    group.add_argument(
        "--pictures",
        action="store_true",
        help="also draw float and INT8 boxes on frames that each file was judged on: FILE.boxes.jpg",
    )
