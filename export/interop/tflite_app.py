"""``--for tflite-app``: a TFLite file that gives boxes, for MediaPipe and the TFLite task library."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from edgedet.engines.finished import OUTPUTS, RULES
from edgedet.engines.tflite_file import read_trailer, with_trailer
from edgedet.export.interop.onnx_reader import first_rows
from edgedet.export.interop.target import Agreement, Reader, Request, labels_text, verified_file, write_models
from edgedet.export.interop.tflite_detections import with_detections
from edgedet.export.interop.tflite_metadata import BUFFER_NAME, detector_metadata, with_labels
from edgedet.types import Detections

README = """{name} by `edgedet export --for tflite-app`: boxes come out of {files}; labels.txt is in there, too.
Input image: (1, {h}, {w}, 3) uint8 RGB; the picture {fit}.
Outputs in order: boxes (1, 100, 4) y1 x1 y2 x2 in [0, 1], classes (1, 100), scores (1, 100), number (1), float32.
MediaPipe: ObjectDetector with model_asset_path; it stretches the picture to the input instead of keeping its shape.
Others: any TFLite runtime that has the operator TFLite_Detection_PostProcess; scores start at 0.1, best first.
"""


def write(request: Request) -> list[Agreement]:
    """Write model.tflite (and model_int8.tflite), labels.txt and README.md into the target's folder."""
    return write_models(request, request.files.tflite_files(), write_tflite_app, README)


def write_tflite_app(
    request: Request, name: str, made_from: Path, agreements: list[Agreement], for_coral: bool = False
) -> str:
    """Write one file that ends in the operator, compare it with the file that it is made from; return its name.

    for_coral: as of ``with_detections``.
    """
    meta, flatbuffer = read_trailer(made_from)
    builder, image, outputs = with_detections(flatbuffer, meta, for_coral)
    description = f"EfficientDet by edgedet, {meta.precision}, of the checkpoint with SHA-256 {meta.source_sha256}"
    builder.add_metadata(BUFFER_NAME, detector_metadata(request.files.name, description))
    finished = replace(meta, input_layout="uint8 NHWC RGB", outputs=OUTPUTS, nms=RULES)
    data = with_labels(with_trailer(builder.finished([image], outputs), finished), labels_text(meta))
    reader = partial(tflite_reader, threads=request.threads)
    with verified_file(request, name, made_from, reader, agreements, clip="nothing") as path:
        path.write_bytes(data)
    return name


def tflite_reader(path: Path, threads: int) -> Reader:
    """Return a reader of a file that ends in the operator, by LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=threads)
    interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]
    places = [item["index"] for item in interpreter.get_output_details()]
    h, w = (int(side) for side in image["shape"][1:3])

    def read(pixels: np.ndarray) -> Detections:
        interpreter.set_tensor(image["index"], np.ascontiguousarray(pixels[..., ::-1]))
        interpreter.invoke()
        boxes, classes, scores, number = (interpreter.get_tensor(place) for place in places)
        boxes_xyxy = boxes[..., [1, 0, 3, 2]] * np.array([w, h, w, h], np.float32)
        return first_rows(number, np.clip(boxes_xyxy, 0, [w, h, w, h]).astype(np.float32), scores, classes)

    return read
