"""Multiply-accumulates of a model file, .onnx or .tflite, where the package that reads it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from edgedet.engines.tflite_file import read_trailer
from edgedet.errors import EdgeDetError


def count_macs(path: Path) -> int | None:
    """Return the multiply-accumulates of one picture; None for engines, and where no package here reads the file."""
    try:
        if path.suffix == ".onnx" and find_spec("onnx") is not None:
            import onnx

            from edgedet.calibration.graph.macs import count_conv_macs
            from edgedet.export.fusion.open_batch import close_batch

            return sum(count_conv_macs(close_batch(onnx.load(path))).values())
        if (
            path.suffix == ".tflite"
            and find_spec("ai_edge_litert") is not None
            and find_spec("flatbuffers") is not None
        ):
            from edgedet.benchmarks.profile.tflite_nodes import read_operators

            return sum(operator.macs for operator in read_operators(read_trailer(path)[1]))
    except EdgeDetError:  # a file that another exporter wrote: it is measured without
        return None
    return None
