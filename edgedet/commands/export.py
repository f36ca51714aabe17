"""``edgedet export``: turn a checkpoint into verified model files. torch and onnx are imported only when it runs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .. import demo
from ..errors import PartialFailure
from ..export.checkpoints.open_weights import make_stem, open_weights
from ..export.export_onnx import ExportResult, export_onnx
from ..postprocess import ORIGINALS
from ..progress import count_of
from ..schemas import write_figures
from .export_arguments import add_export_arguments
from .export_options import ExportOptions, export_options
from .options import text_stream

if TYPE_CHECKING:
    from ..benchmarks.cluster.shards import ClusterOptions
    from ..board.build import BuildReport
    from ..export.int8.export_int8 import Int8Outcome
    from ..export.int8.options import Int8Options
    from ..export.interop.targets import TargetResult

DESCRIPTION = "Turn an EfficientDet checkpoint into a fused ONNX file and verify it against the checkpoint."
EXAMPLE = """  edgedet export --phi 0 --int8 --weights demo
  edgedet export --phi 0 --weights tf_efficientdet_d0_cards.pth
  edgedet export --phi 0 --weights demo --size 384x512
  edgedet export --phi 0 --weights demo --for onnx-nms"""
INPUTS = ("weights", "names", "calib", "table", "data", "project")
OUTPUTS = ("json",)
WRITES_INTO = ("out",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet export``."""
    add_export_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Export, and print the files with their differences from the checkpoint."""
    options = export_options(args)
    text = text_stream(options.json)
    checkpoint, weights = open_weights(options.weights, _print_progress)
    if options.targets and options.original_nms:
        from ..export.interop.target import check_rules

        check_rules(ORIGINALS[checkpoint.spec.family])  # now, not when all else is written
    name = options.name or (demo.MODEL_NAME if options.weights.is_demo else make_stem(weights))
    result = export_onnx(
        checkpoint,
        options.out / f"{name}.onnx",
        options.threads,
        options.tflite,
        options.original_nms,
        options.top_anchors,
        options.max_batch,
    )
    _print_float(result, text)
    failure = None
    if options.int8 is not None:
        outcome = _export_int8(Path(result.onnx), options.int8, options.cluster, text)
        result, failure = replace(result, int8=outcome.written, refused=outcome.refused), outcome.error()
    if options.engine:
        result = replace(result, engine=_build_engine(result, options.calib, options.score, text))
    if options.targets:
        result = replace(result, targets=_write_targets(result, options, name, text))
    write_figures("export", options.json, asdict(result))
    if failure is not None:
        raise failure
    if options.engine and result.engine is None:
        raise PartialFailure(_NO_ENGINE.format(folder=options.out, name=_onnx_for_engine(result).name))
    return 0


def _print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_float(result: ExportResult, text: TextIO) -> None:
    h, w = result.input_hw
    classes = count_of(result.classes, "class", "es")
    print(
        f"wrote {result.onnx}: {result.model}, {h}x{w}, {classes}, {result.nodes} nodes, "
        f"{result.bytes / 1e6:.1f} MB\n"
        f"verified on {result.frames} frames: outputs within {result.max_relative_difference:.1e} of the checkpoint's "
        "(share of the largest)",
        file=text,
    )
    if result.tflite is not None:
        print(
            f"wrote {result.tflite.path}: {result.tflite.bytes / 1e6:.1f} MB, verified likewise: outputs within "
            f"{result.tflite.max_relative_difference:.1e}",
            file=text,
        )


def _export_int8(float_path: Path, options: Int8Options, cluster: ClusterOptions | None, text: TextIO) -> Int8Outcome:
    from ..export.int8.export_int8 import export_int8, read_float_model

    model, meta = read_float_model(float_path)
    if cluster is None:
        outcome = export_int8(float_path, model, meta, options, _print_progress)
    else:
        from ..benchmarks.cluster.int8_workers import int8_workers

        with int8_workers(cluster) as workers:
            outcome = export_int8(float_path, model, meta, options, _print_progress, workers)
        for line in workers.throughput.lines("frames"):
            _print_progress(line)
    for result in outcome.written:
        print(
            f"wrote {result.path}: {result.bytes / 1e6:.1f} MB, {100 * result.int8_mac_share:.1f} % of the MACs in "
            f"INT8, {result.gate['verdict']}",
            file=text,
        )
    return outcome


_NO_ENGINE = (
    "no engine was built, because TensorRT is not on this machine: copy {folder}/*.onnx to the board and run "
    "`edgedet build {name}` there."
)


def _onnx_for_engine(result: ExportResult) -> Path:
    """Return the INT8 file for TensorRT, else the float one."""
    int8 = (written.path for written in result.int8 or () if written.path.endswith("_int8.onnx"))
    return Path(next(int8, result.onnx))


def _build_engine(result: ExportResult, source: str | None, score: float, text: TextIO) -> BuildReport | None:
    """Build an engine; return None where TensorRT is not on this machine."""
    from importlib.util import find_spec

    if find_spec("tensorrt") is None:
        return None
    from ..board.build import BuildRequest, build_model

    request = BuildRequest(_onnx_for_engine(result), source=source, score=score)
    return build_model(request, lambda line: print(line, file=text))


def _write_targets(result: ExportResult, options: ExportOptions, name: str, text: TextIO) -> list[TargetResult]:
    """Write the folders of ``--for`` from the files that this export wrote."""
    from ..export.export_model import list_model_files
    from ..export.interop.targets import write_targets

    files = list_model_files(result, name)
    results = write_targets(
        options.targets, files, options.out, options.calib, options.weights.is_demo, options.threads
    )
    for written in results:
        print(f"wrote {written.folder}; {'; '.join(agreement.line() for agreement in written.agreements)}", file=text)
    return results
