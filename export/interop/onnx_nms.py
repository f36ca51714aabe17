"""``--for onnx-nms``: one ONNX file of standard operators that gives boxes, for onnxruntime, OpenVINO and OpenCV."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np

from edgedet.engines.finished import OUTPUTS, RULES
from edgedet.export.fusion.open_batch import open_batch
from edgedet.export.interop.graph_input import load_graph
from edgedet.export.interop.onnx_detections import XYXY_PIXELS, FourNames, four_outputs
from edgedet.export.interop.onnx_reader import Outputs, first_rows, onnx_reader
from edgedet.export.interop.target import Agreement, Request, verified_file, write_models
from edgedet.export.onnx_file import write_onnx
from edgedet.types import Detections

NAMES = FourNames()
README = """{name} by `edgedet export --for onnx-nms`: boxes come out of {files}; class n is line n + 1 of labels.txt.
Input pixels: (1, {h}, {w}, 3) uint8 BGR; the picture {fit}.
Outputs: num (1, 1) int32, boxes (1, 100, 4) x1 y1 x2 y2 in input pixels, scores (1, 100), classes (1, 100) int32.
Rows from num on are 0; scores start at 0.1; divide boxes by the picture's scale to get pixels of the picture.
onnxruntime, OpenVINO and OpenCV 5 run it; OpenVINO computes in bfloat16 where it can (INFERENCE_PRECISION_HINT f32).
"""


def write(request: Request) -> list[Agreement]:
    """Write model.onnx (and model_int8.onnx), labels.txt and README.md into the target's folder."""
    return write_models(request, request.files.onnx_files(), write_onnx_nms, README)


def write_onnx_nms(
    request: Request, name: str, made_from: Path, agreements: list[Agreement], max_batch: int = 1
) -> str:
    """Write one file with the four outputs, compare it with the file that it is made from; return its name.

    max_batch: how many pictures it takes at once. Of more than one, each picture is compared in a batch of two, in
               turns the first and the second, beside its mirror image.
    """
    model, meta = load_graph(made_from)
    if max_batch > 1:
        model, meta = open_batch(model), replace(meta, max_batch=max_batch)
    four_outputs(model, meta, XYXY_PIXELS, NAMES)
    places = cycle(range(2 if max_batch > 1 else 1))
    place = 0

    def feed(pixels: np.ndarray) -> np.ndarray:
        nonlocal place
        place = next(places)
        other = pixels[:, :, ::-1]
        return np.concatenate(([pixels, other], [other, pixels])[place]) if max_batch > 1 else pixels

    def decode(outputs: Outputs) -> Detections:
        in_order = (outputs[name] for name in (NAMES.number, NAMES.boxes, NAMES.scores, NAMES.classes))
        return first_rows(*(values[place : place + 1] for values in in_order))

    reader = partial(onnx_reader, threads=request.threads, meta=meta, decode=decode, feed=feed)
    with verified_file(request, name, made_from, reader, agreements) as temporary:
        write_onnx(model, replace(meta, outputs=OUTPUTS, nms=RULES), temporary)
    return name
