"""Options that several commands share, declared once, so that they read and behave the same everywhere."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Optional, TextIO

from ..engines.base import default_threads
from ..errors import InputError, require
from ..postprocess import DEFAULT_SCORE

if TYPE_CHECKING:
    from ..benchmarks.cluster.shards import ClusterOptions


def add_json(parser: argparse._ActionsContainer, content: str = "the figures") -> None:
    """Declare ``--json [FILE]``; ``edgedet.files.write_json`` takes its value."""
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help=f"write {content} as JSON to FILE, or to stdout"
    )


def text_stream(json_target: Optional[str]) -> TextIO:
    """Return where a command prints for people: stderr where its JSON goes to stdout, else stdout."""
    return sys.stderr if json_target == "-" else sys.stdout


def add_threads(parser: argparse._ActionsContainer, default: Optional[int] = None) -> None:
    """Declare ``--threads N``; the default is the number of cores that the process may use."""
    parser.add_argument(
        "--threads",
        type=int,
        default=default or default_threads(),
        metavar="N",
        help="CPU threads (default: %(default)s)",
    )


def add_score(
    parser: argparse._ActionsContainer, help_text: str = "leave out detections with a lower score, 0 to 1"
) -> None:
    """Declare ``--score S``; ``edgedet.postprocess.logit_of`` refuses what lies outside (0, 1)."""
    parser.add_argument(
        "--score", type=float, default=DEFAULT_SCORE, metavar="S", help=f"{help_text} (default: %(default)s)"
    )


def add_labelled_data(parser: argparse._ActionsContainer, help_text: str = "labels") -> None:
    """Declare ``--data X`` and ``--images DIR``; ``edgedet.judge.labels.read_dataset`` takes both."""
    parser.add_argument(
        "--data", type=Path, metavar="X", help=f"{help_text}: COCO JSON file, or folder of Pascal VOC or YOLO labels"
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images of --data (default: the format's usual one)"
    )


def add_variant(parser: argparse._ActionsContainer) -> None:
    """Declare ``--variant NAME``: which model of the family a checkpoint holds."""
    parser.add_argument(
        "--variant",
        metavar="NAME",
        help="the model's name, if the checkpoint does not say it, such as tf_efficientdet_d0",
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """Declare the settings of a training that its tensors do not show; ``training.read_training`` takes all three."""
    group = parser.add_argument_group(
        "settings of the training, if they are not the official ones (a checkpoint's tensors do not show them)"
    )
    group.add_argument(
        "--project", type=Path, metavar="FILE", help="the training's settings: zylo117's project .yml, automl's hparams"
    )
    group.add_argument(
        "--anchor-ratios", metavar="W:H,...", help="aspect ratios of the anchors, in order, e.g. 1:1,1.4:0.7,0.7:1.4"
    )
    group.add_argument(
        "--anchor-scales",
        metavar="A,B,...",
        help="factors for the size of the anchors at each place, e.g. 1,1.26,1.587",
    )


def add_class_names(parser: argparse._ActionsContainer) -> None:
    """Declare ``--names FILE``: the class names of a checkpoint."""
    parser.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help="file of class names, one on each line (default: STEM.names, STEM.json, COCO's for 90 classes, else "
        "class_0, ...)",
    )


def add_scene(parser: argparse._ActionsContainer, default_frames: int) -> None:
    """Declare ``--calib SRC`` and ``--frames N``: the pictures for calibration."""
    parser.add_argument(
        "--calib",
        metavar="SRC",
        help="pictures for calibration: video, folder, image or camera of the scene (default: bundled photographs)",
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=default_frames,
        metavar="N",
        help="number of frames to take from --calib (default: %(default)s)",
    )


def check_at_least(option: str, value: Optional[float], least: float) -> None:
    """Raise InputError where a number that was given is smaller than ``least``; 0 stands for "above 0"."""
    if value is not None and not (value > 0 if least == 0 else value >= least):
        raise InputError(f"{option} wants a number {f'from {least:g} up' if least else 'above 0'}; got {value}.")
    if value is not None and value > sys.maxsize:  # infinite, too
        raise InputError(f"{option} wants a number up to {sys.maxsize}; got {value}.")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Declare ``--workers`` and ``--ray``; ``cluster_options`` takes their values."""
    group = parser.add_argument_group("many processes or machines, by Ray (docs/scaling.md)")
    where = group.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, metavar="N", help="processes on this machine, of --threads each")
    where.add_argument("--ray", metavar="ADDRESS", help="a running Ray cluster, as head:6379")


def cluster_options(workers: Optional[int], address: Optional[str], threads: int) -> Optional[ClusterOptions]:
    """Return where the work is done; None for this process alone. Raises InputError, and MissingDependency of Ray."""
    if workers is None and address is None:
        return None
    check_at_least("--workers", workers, 1)
    from ..benchmarks.cluster.shards import INSTALL, ClusterOptions

    require("ray", "--workers and --ray", INSTALL)
    return ClusterOptions(workers, address, threads)
