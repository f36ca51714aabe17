"""``edgedet eval``: measure a model's accuracy on labelled images, and print the figures."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..detector import ORIGINAL
from ..engines.base import check_threads
from ..errors import InputError, PartialFailure, require
from ..files import sha256_of
from ..judge.average_precision import FIGURES, SCORE_FLOOR
from ..judge.evaluate import DetectAll, Evaluation, describe_failures, evaluate
from ..judge.labels import LabelledImage, read_dataset
from ..postprocess import MAX_BOXES
from ..schemas import write_figures
from ..types import Detections
from .options import (
    add_json,
    add_labelled_data,
    add_threads,
    add_workers,
    check_at_least,
    cluster_options,
    text_stream,
)

DESCRIPTION = "Measure a model file's average precision (AP) on labelled images, by pycocotools."
EXAMPLE = """  edgedet eval edgedet-out/my.onnx --data test.json --images photos/
  edgedet eval edgedet-out/my.onnx --data VOC2007/ --json accuracy.json
  edgedet eval edgedet-out/my.onnx --data VOC2007/ --report accuracy/
  edgedet eval edgedet-out/my.onnx --data val2017.json --workers 8 --threads 1"""
INPUTS = ("model", "data")
OUTPUTS = ("json", "report")
OUTPUT_FOLDERS = ("report",)


@dataclass(frozen=True)
class Options:
    """What the command line says; ``limit``: the first images only."""

    model: str
    data: Path
    images: Optional[Path]
    soft_nms: bool
    original_nms: bool
    threads: int
    limit: Optional[int]
    report: Optional[Path]
    workers: Optional[int]
    ray: Optional[str]
    json: Optional[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet eval``."""
    parser.add_argument("model", metavar="MODEL", help="model file that `edgedet export` wrote")
    add_labelled_data(parser)
    nms = parser.add_mutually_exclusive_group()
    nms.add_argument("--soft-nms", action="store_true", help="gaussian soft-NMS, as effdet with soft_nms=True")
    nms.add_argument(
        "--original-nms", action="store_true", help="post-processing as the code base that trained the model does it"
    )
    add_threads(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N images only")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="also write pictures: precision-recall curves, AP per class, the worst misses and false alarms",
    )
    add_workers(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print the figures, and return 0.

    Raises PartialFailure where some images failed, SourceError where all did.
    """
    if args.data is None:
        raise InputError("nothing to measure on: name --data FILE.json (COCO) or --data FOLDER (Pascal VOC, YOLO).")
    options = Options(**vars(args))
    check_at_least("--threads", options.threads, 1)
    check_at_least("--limit", options.limit, 1)
    check_threads(options.threads)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # our line on a damaged image is enough; read at cv2's import
    for module in ("pycocotools", "tqdm", *(("matplotlib",) if options.report else ())):
        require(module, "edgedet eval")
    require("cv2", "edgedet eval").setNumThreads(options.threads)
    dataset = read_dataset(options.data, options.images)
    dataset = replace(dataset, images=dataset.images[: options.limit])
    nms = ORIGINAL if options.original_nms else None
    evaluation = evaluate(
        options.model, dataset, options.threads, options.soft_nms, _print_note, nms, _detect_in_workers(options, nms)
    )
    _print(options, evaluation)
    if options.report is not None:
        from ..judge.report import write_report

        for path in write_report(options.report, evaluation):
            print(f"wrote {path}", file=text_stream(options.json))
    if options.json:
        write_figures("eval", options.json, _figures(options, evaluation))
    if evaluation.failures:
        raise PartialFailure(describe_failures(evaluation.failures, evaluation.accuracy.images))
    return 0


def _detect_in_workers(options: Options, nms: Optional[str]) -> Optional[DetectAll]:
    """Return a function that detects in workers; None where no worker is asked for."""
    cluster = cluster_options(options.workers, options.ray, options.threads)
    if cluster is None:
        return None
    from ..benchmarks.cluster.detect import detect_images_in_workers
    from ..benchmarks.cluster.shards import Throughput

    def detect_all(images: Sequence[LabelledImage]) -> Tuple[List[Tuple[LabelledImage, Detections]], List[str]]:
        throughput = Throughput()
        detected = detect_images_in_workers(options.model, images, cluster, options.soft_nms, nms, throughput)
        for line in throughput.lines("images"):
            _print_note(line)
        return detected

    return detect_all


def _print_note(line: str) -> None:
    print(f"edgedet: {line}", file=sys.stderr)


def _print(options: Options, evaluation: Evaluation) -> None:
    spec, accuracy = evaluation.meta.spec, evaluation.accuracy
    text = text_stream(options.json)
    print(
        f"model {options.model}: {spec.name}, {spec.input_hw[0]}x{spec.input_hw[1]}, {evaluation.meta.precision}\n"
        f"data {options.data}: {accuracy.images} images, {accuracy.boxes} boxes\n"
        f"score above {SCORE_FLOOR}, at most {MAX_BOXES} boxes an image, {evaluation.nms.words} NMS",
        file=text,
    )
    for name, meaning in FIGURES:
        print(f"{name:<6} {_shown(accuracy.figures[name])}  {meaning}", file=text)
    print("AP per class", file=text)
    for name, value in accuracy.per_class.items():
        print(f"{_shown(value)}  {name}", file=text)


def _figures(options: Options, evaluation: Evaluation) -> Dict[str, Any]:
    accuracy = evaluation.accuracy
    return {
        "model": options.model,
        "model_sha256": sha256_of(options.model),
        "data": str(options.data),
        "images": accuracy.images,
        "boxes": accuracy.boxes,
        "score_floor": SCORE_FLOOR,
        "max_boxes": MAX_BOXES,
        "nms": evaluation.nms.words,
        **accuracy.figures,
        "per_class": accuracy.per_class,
        "left_out": evaluation.left_out,
        "failures": evaluation.failures,
    }


def _shown(value: Optional[float]) -> str:
    return "     -" if value is None else f"{value:.4f}"
