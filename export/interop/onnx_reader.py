"""Run an ONNX file with boxes as outputs by onnxruntime, to compare them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.artifact import ArtifactMeta
from edgedet.export.interop.target import Reader
from edgedet.types import Detections

Outputs = dict[str, np.ndarray]


def onnx_reader(
    path: Path,
    threads: int,
    meta: ArtifactMeta,
    decode: Callable[[Outputs], Detections],
    feed: Callable[[np.ndarray], np.ndarray] = lambda pixels: pixels,
) -> Reader:
    """Return a reader of the file at ``path``.

    decode: outputs by name -> boxes in pixels of the model's input; feed: camera bytes -> the file's input.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if meta.precision == "int8":  # as edgedet.engines.ort does
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session: Any = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0].name
    names = [value.name for value in session.get_outputs()]

    def read(pixels: np.ndarray) -> Detections:
        return decode(dict(zip(names, session.run(None, {image: feed(pixels)}), strict=True)))

    return read


def first_rows(number: np.ndarray, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Detections:
    """Return the first ``number`` rows of boxes (1, n, 4) x1 y1 x2 y2, scores (1, n) and classes (1, n)."""
    n = int(number.reshape(-1)[0])
    return Detections(
        np.ascontiguousarray(boxes[0, :n], np.float32),
        scores[0, :n].astype(np.float32),
        classes[0, :n].astype(np.int64),
    )
