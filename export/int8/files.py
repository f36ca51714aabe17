"""The forms of an INT8 file, one for each kind of engine: the end of its name, its placement and what writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.placement.typed import make_typed_graph
from edgedet.calibration.quantise import Quantised
from edgedet.export.onnx_file import finish_graph, write_onnx

Write = Callable[[Quantised, ArtifactMeta, Path], None]


@dataclass(frozen=True)
class Form:
    """One kind of INT8 file: the end of its name, its placement ("sparse" or "dense") and its writer."""

    suffix: str
    placement: str
    write: Write


def _write_sparse(quantised: Quantised, meta: ArtifactMeta, path: Path) -> None:
    write_onnx(quantised.sparse_model(), meta, path)


def _write_typed(quantised: Quantised, meta: ArtifactMeta, path: Path) -> None:
    # What keeps the best anchors is before the conversion, so that only their rows become FP32.
    write_onnx(make_typed_graph(finish_graph(quantised.sparse_model(), meta)), meta, path)


def _write_tflite(quantised: Quantised, meta: ArtifactMeta, path: Path) -> None:
    from edgedet.export.tflite.writer import write_tflite

    write_tflite(quantised.model, meta, path, quantised.dense)


SPARSE = Form(".onnx", "sparse", _write_sparse)
TYPED = Form("_fp16.onnx", "sparse", _write_typed)
TFLITE = Form(".tflite", "dense", _write_tflite)
