"""INT8 model -> files, one form for each kind of engine. Knows formats and names; judges nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.placement.typed import typed_graph
from edgedet.calibration.quantise import Quantised
from edgedet.export.onnx_file import write_onnx

Write = Callable[[Quantised, ArtifactMeta, Path], None]


@dataclass(frozen=True)
class Form:
    """One kind of INT8 file: the end of its name, its placement ("sparse" or "dense"), how it is written."""

    suffix: str
    placement: str
    write: Write


def _write_tflite(quantised: Quantised, meta: ArtifactMeta, path: Path) -> None:
    from edgedet.export.tflite.writer import write_tflite

    write_tflite(quantised.model, meta, path, quantised.dense)


SPARSE = Form(".onnx", "sparse", lambda quantised, meta, path: write_onnx(quantised.sparse_model(), meta, path))
TYPED = Form(
    "_fp16.onnx", "sparse", lambda quantised, meta, path: write_onnx(typed_graph(quantised.sparse_model()), meta, path)
)
TFLITE = Form(".tflite", "dense", _write_tflite)
