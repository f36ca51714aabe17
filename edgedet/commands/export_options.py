"""Check what was typed after ``edgedet export``, and return it as ``ExportOptions``."""

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
from ..specs import PHI
from .export_arguments import FRAMES, KEEP_FLOAT, MAX_DROP, OBSERVER, RECOVERY
from .options import check_at_least, cluster_options

if TYPE_CHECKING:
    from ..benchmarks.cluster.shards import ClusterOptions
    from ..export.int8.options import Int8Options
    from ..export.interop.targets import Target


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


# Options that do nothing without --int8, and their values where they are not given.
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
