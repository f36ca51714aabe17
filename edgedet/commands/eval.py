"""``edgedet eval``: options to labels and model; the table of figures and the exit code."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from ..detector import Detector
from ..engines.base import check_threads, default_threads
from ..errors import InputError, PartialFailure, SourceError, require
from ..export.checkpoints.coco import is_gap
from ..files import sha256_of, write_json
from ..judge.average_precision import FIGURES, SCORE_FLOOR, Accuracy, average_precision, detect_images
from ..judge.labels import Dataset, listed, match_classes, read_dataset
from ..postprocess import MAX_BOXES
from ..progress import with_progress

DESCRIPTION = "Measure a model file's average precision (AP) on labelled images, by pycocotools."
EXAMPLE = """  edgedet eval edgedet-out/my.onnx --data test.json --images photos/
  edgedet eval edgedet-out/my.onnx --data VOC2007/ --json accuracy.json"""

_NAMED_FAILURES = 5  # in the closing line; --json has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet eval``."""
    parser.add_argument("model", metavar="MODEL", help="model file that `edgedet export` wrote")
    parser.add_argument("--data", type=Path, metavar="X", help="COCO JSON file, or folder of Pascal VOC XML")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images (default: the format's conventional one)"
    )
    parser.add_argument("--soft-nms", action="store_true", help="gaussian soft-NMS, as in official COCO figures")
    parser.add_argument("--threads", type=int, default=default_threads(), help="CPU threads (default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N images only")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the figures as JSON to FILE, or to stdout"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the figures, and return 0.

    Raises PartialFailure where some images failed, SourceError where all did.
    """
    if args.data is None:
        raise InputError("nothing to measure on: name --data FILE.json (COCO) or --data FOLDER (Pascal VOC).")
    for option, value in (("--threads", args.threads), ("--limit", args.limit)):
        if value is not None and value < 1:
            raise InputError(f"{option} wants a number from 1 up; got {value}.")
    check_threads(args.threads)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # our line on a damaged image is enough; read at cv2's import
    for module in ("pycocotools", "tqdm"):
        require(module, "edgedet eval")
    require("cv2", "edgedet eval").setNumThreads(args.threads)
    dataset = read_dataset(args.data, args.images)
    dataset = replace(dataset, images=dataset.images[: args.limit])
    text = sys.stderr if args.json == "-" else sys.stdout
    with Detector(args.model, args.threads, SCORE_FLOOR, args.soft_nms) as detector:
        class_map = match_classes(dataset, detector.class_names)
        left_out = _left_out(dataset, class_map, detector.class_names)
        found, failures = detect_images(detector, with_progress(dataset.images, "eval", "image"))
        failures = [*dataset.failures, *failures]
        if not found:
            raise SourceError(_failure_line(failures, 0))
        accuracy = average_precision(found, class_map, _names(dataset, class_map, detector.class_names))
        _report(args, detector, accuracy, text)
    if args.json:
        figures = {
            "model": args.model,
            "model_sha256": sha256_of(args.model),
            "data": str(args.data),
            "images": accuracy.images,
            "boxes": accuracy.boxes,
            "score_floor": SCORE_FLOOR,
            "max_boxes": MAX_BOXES,
            "nms": _nms(args.soft_nms),
            **accuracy.figures,
            "per_class": accuracy.per_class,
            "left_out": left_out,
            "failures": failures,
        }
        write_json(args.json, figures)
    if failures:
        raise PartialFailure(_failure_line(failures, accuracy.images))
    return 0


def _names(dataset: Dataset, class_map: tuple[int, ...], model_names: tuple[str, ...]) -> list[str]:
    """Return the names by class id; the data's where it has one, since a model may have numbers only."""
    names = list(model_names)
    for name, slot in zip(dataset.class_names, class_map):
        if slot >= 0:
            names[slot] = name
    return names


def _left_out(dataset: Dataset, class_map: tuple[int, ...], model_names: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the classes that only one side knows, and say so on stderr in one line."""
    left_out = {
        "data": [name for name, slot in zip(dataset.class_names, class_map) if slot < 0],
        "model": [name for slot, name in enumerate(model_names) if slot not in class_map and not is_gap(name)],
    }
    parts = []
    if left_out["data"]:
        parts.append(f"{len(left_out['data'])} of the data that the model does not know ({listed(left_out['data'])})")
    if left_out["model"]:
        parts.append(f"{len(left_out['model'])} of the model that the data does not have ({listed(left_out['model'])})")
    if parts:
        print(f"edgedet: classes left out: {'; '.join(parts)}", file=sys.stderr)
    if dataset.unlabelled:
        print(f"edgedet: images without a label file, left out: {dataset.unlabelled}", file=sys.stderr)
    return left_out


def _nms(soft: bool) -> str:
    return "soft (gaussian)" if soft else "hard"


def _report(args: argparse.Namespace, detector: Detector, accuracy: Accuracy, text: TextIO) -> None:
    spec = detector.meta.spec
    print(
        f"model {args.model}: {spec.name}, {spec.input_hw[0]}x{spec.input_hw[1]}, {detector.meta.precision}\n"
        f"data {args.data}: {accuracy.images} images, {accuracy.boxes} boxes\n"
        f"score above {SCORE_FLOOR}, at most {MAX_BOXES} boxes an image, {_nms(args.soft_nms)} NMS",
        file=text,
    )
    for name, meaning in FIGURES:
        print(f"{name:<6} {_shown(accuracy.figures[name])}  {meaning}", file=text)
    print("AP per class", file=text)
    for name, value in accuracy.per_class.items():
        print(f"{_shown(value)}  {name}", file=text)


def _shown(value: float | None) -> str:
    return "     -" if value is None else f"{value:.4f}"


def _failure_line(failures: list[str], done: int) -> str:
    more = len(failures) - _NAMED_FAILURES
    rest = f"; and {more} more" if more > 0 else ""
    return f"{len(failures)} failed, {done} images done: {'; '.join(failures[:_NAMED_FAILURES])}{rest}."
