"""Declare the options of ``edgedet export``, check what was typed, and return it as a dataclass."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..engines.base import check_threads
from ..errors import InputError, require
from ..export.checkpoints.open_weights import DEMO, WeightsChoice
from ..export.export_onnx import PACKAGES
from ..files import MODELS_FOLDER
from ..specs import PHI
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
    check_at_least,
    cluster_options,
)

if TYPE_CHECKING:
    from ..benchmarks.cluster.shards import ClusterOptions
    from ..export.int8.options import Int8Options
    from ..export.interop.targets import Target

# defaults
FRAMES = 128
RECOVERY = "fast"
OBSERVER = "mixed"
KEEP_FLOAT = "stem,backbone_depthwise,se"
MAX_DROP = 1.0


@dataclass(frozen=True)
class ExportOptions:
    """The options of ``edgedet export``.

    name:   name of the files without suffix; None: the checkpoint's.
    int8:   None: no INT8 file is written.
    original_nms: select boxes by the rules of the checkpoint's own code base.
    top_anchors: how many anchors the ONNX files' outputs are of, 0: of all; None: the default.
    max_batch: how many pictures the ONNX files take at once.
    engine: also build a TensorRT engine, compared on frames of ``calib`` at ``score``.
    targets: other programs to write files for, compared on frames of ``calib``.
    cluster: workers that observe and judge for INT8; None: this process alone.
    """

    weights: WeightsChoice
    out: Path
    name: str | None
    tflite: bool
    threads: int
    int8: Int8Options | None
    original_nms: bool
    top_anchors: int | None
    max_batch: int
    engine: bool
    calib: str | None
    score: float
    targets: tuple[Target, ...]
    json: str | None
    cluster: ClusterOptions | None = None


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet export``."""
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
        help="let ONNX files give the outputs of the N anchors of the best scores only, at most 3840, so that a GPU "
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


def export_options(args: argparse.Namespace) -> ExportOptions:
    """Check the options before anything is computed; raises InputError or MissingDependency."""
    if args.weights is None and args.phi is None and args.variant is None:
        raise InputError(
            "edgedet export needs --weights FILE, or --weights demo for the bundled model, or --phi N (or --variant "
            "NAME) alone for official COCO weights."
        )
    _check_combination(args)
    check_at_least("--threads", args.threads, 1)
    check_threads(args.threads)
    for module in PACKAGES:
        require(module, "edgedet export")
    if args.top_anchors is not None:
        from ..export.fusion.top_anchors import check_top_anchors

        check_top_anchors(args.top_anchors)
    from ..export.fusion.open_batch import check_batch

    check_batch(args.batch)
    targets: tuple[Target, ...] = ()
    if args.targets is not None:
        from ..export.interop.targets import targets_named

        targets = targets_named(args.targets)
    tflite = args.tflite or any(target.tflite for target in targets)
    if tflite:
        for module in ("ai_edge_litert", "flatbuffers"):
            require(module, "edgedet export --tflite")
    from ..export.checkpoints.checkpoint import parse_size
    from ..export.checkpoints.training import read_training

    weights = WeightsChoice(
        args.weights,
        args.phi,
        args.variant,
        args.names,
        None if args.classes is None else tuple(args.classes.split(",")),
        parse_size(args.size) if args.size else None,
        read_training(args.anchor_ratios, args.anchor_scales, args.project),
    )
    return ExportOptions(
        weights,
        args.out,
        args.name,
        tflite,
        args.threads,
        _int8_options(args, weights.is_demo) if args.int8 else None,
        args.original_nms,
        args.top_anchors,
        args.batch,
        args.target is not None,
        args.calib,
        args.score,
        targets,
        args.json,
        cluster_options(args.workers, args.ray, args.threads),
    )


# Options that do nothing without --int8, and what they are where they were not given.
_OF_INT8 = {
    "calib": None,
    "frames": FRAMES,
    "table": None,
    "recover": RECOVERY,
    "observer": OBSERVER,
    "keep_float": KEEP_FLOAT,
    "revert": None,
    "data": None,
    "images": None,
    "max_drop": MAX_DROP,
    "force": False,
    "pictures": False,
    "workers": None,
    "ray": None,
}


def _check_combination(args: argparse.Namespace) -> None:
    """Raise InputError for an option that would be ignored, or that says something else than another one."""
    for name, default in _OF_INT8.items():
        used = args.int8 or (name == "calib" and (args.target is not None or args.targets is not None))
        if getattr(args, name) != default and not used:
            raise InputError(f"--{name.replace('_', '-')} goes with --int8: add it, or leave the option out.")
    if args.images is not None and args.data is None:
        raise InputError("--images goes with --data: add it, or leave the option out.")
    if args.phi is not None and args.variant is not None:
        size = PHI.get(args.phi, f"phi {args.phi}").replace("tf_", "")
        if size not in (args.variant.replace("tf_", ""), args.variant.replace("tf_", "").replace("_ap", "")):
            raise InputError(f"--phi {args.phi} is {size}, but --variant says {args.variant}: leave one of them out.")
    if args.weights not in (None, DEMO) and not os.path.exists(args.weights):
        raise InputError(f"there is no checkpoint {args.weights}: name a file, or demo.")


def _int8_options(args: argparse.Namespace, is_demo: bool) -> Int8Options:
    from ..calibration.placement.plan import check_keep_float_words
    from ..calibration.placement.table import CalibrationTable
    from ..calibration.ranges.choose import OBSERVERS
    from ..export.int8.options import Int8Options
    from ..export.int8.revert import MOST
    from ..judge.labels import read_dataset
    from ..postprocess import logit_of

    if args.observer not in OBSERVERS:
        raise InputError(f"--observer takes {', '.join(OBSERVERS)}; got {args.observer!r}.")
    logit_of(args.score)
    if args.revert is not None and args.revert < 0:
        raise InputError(f"--revert takes a number of layers from 0 on; got {args.revert}.")
    keep_float = tuple(name for name in args.keep_float.split(",") if name)
    check_keep_float_words(keep_float)
    return Int8Options(
        calib=args.calib,
        frames=args.frames,
        recovery=args.recover,
        observer=args.observer,
        keep_float=keep_float,
        table=None if args.table is None else CalibrationTable.load(args.table),
        labels=None if args.data is None else read_dataset(args.data, args.images),
        score=args.score,
        max_drop=args.max_drop,
        force=args.force,
        keep_rejected=args.keep_rejected,
        pictures=args.pictures,
        revert=MOST if args.revert is None else args.revert,
        threads=args.threads,
        is_demo=is_demo,
    )
