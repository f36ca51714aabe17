"""``--for frigate``: files, label map and configuration for Frigate's detectors cpu, edgetpu, onnx and zmq.

Frigate's onnx detector reads no SSD; the shape that it calls yolonas, boxes after NMS, serves. Read from Frigate 0.18
(commit e3fa7018, 2026-07-23): detectors/detector_config.py, plugins/onnx.py, plugins/cpu_tfl.py, plugins/zmq_ipc.py.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
from onnx import TensorProto

from edgedet.artifact import ArtifactMeta
from edgedet.export.interop.graph_input import load_graph
from edgedet.export.interop.onnx_detections import XYXY_PIXELS, append_nms, name_output
from edgedet.export.interop.onnx_reader import Outputs, onnx_reader
from edgedet.export.interop.target import Agreement, Request, labels_text, verified_file, write_text
from edgedet.export.interop.tflite_app import write_tflite_app
from edgedet.types import Detections

ROWS = 20  # that Frigate reads of a picture
VERSION = "0.18 (development, July 2026)"
OUTPUT = "detections"
CONFIG = """# Frigate {version}. Copy this folder to Frigate's /config/edgedet.
# Take one of the three blocks. This is the syntax before pull request 23995, which replaces "detectors".

# 1. ONNX: on CPU, OpenVINO or a GPU, as Frigate chooses
detectors:
  edgedet:
    type: onnx
model:
  model_type: yolonas
  path: /config/edgedet/model_frigate.onnx
  labelmap_path: /config/edgedet/labelmap.txt
  width: {w}
  height: {h}
  input_tensor: nhwc
  input_pixel_format: bgr
  input_dtype: int

# 2. TFLite on the CPU
# detectors:
#   edgedet:
#     type: cpu
#     num_threads: 2
# model:
#   model_type: ssd
#   path: /config/edgedet/{tflite}
#   labelmap_path: /config/edgedet/labelmap.txt
#   width: {w}
#   height: {h}
#   input_tensor: nhwc
#   input_pixel_format: rgb
#   input_dtype: int

# 3. any engine of edgedet, TensorRT too: edgedet serve --zmq ipc:///tmp/cache/zmq_detector MODEL
# detectors:
#   edgedet:
#     type: zmq
#     endpoint: ipc:///tmp/cache/zmq_detector
# model:
#   model_type: ssd
#   path: /config/edgedet/labelmap.txt  # not read: edgedet serve has the model
#   labelmap_path: /config/edgedet/labelmap.txt
#   width: {w}
#   height: {h}
#   input_tensor: nhwc
#   input_pixel_format: rgb
#   input_dtype: int
"""
README = """{name} by `edgedet export --for frigate`, for Frigate {version}: copy this folder to /config/edgedet.
Put one block of config.yml into Frigate's own: onnx (model_frigate.onnx), cpu ({tflite}) or zmq (edgedet serve).
Name the objects to track in Frigate as labelmap.txt does; Frigate drops scores below 0.4 itself.
Frigate stretches regions to the input, edgedet keeps their shape: the more square both are, the less that costs.
Coral: edgetpu_compiler takes the INT8 TFLite file; that was not tried here, as neither compiler nor stick was at hand.
"""


def write(request: Request) -> list[Agreement]:
    """Write model_frigate.onnx, TFLite files, labelmap.txt, config.yml and README.md into the target's folder."""
    agreements: list[Agreement] = []
    _write_onnx(request, agreements)
    ends = request.files.tflite_files()
    names = [write_tflite_app(request, f"model{end}.tflite", path, agreements) for end, path in ends]
    h, w = request.meta.spec.input_hw
    values = {"name": request.files.name, "version": VERSION, "h": h, "w": w, "tflite": names[-1]}
    labels = labels_text(request.meta).splitlines()
    text = "".join(f"{index} {name}\n" for index, name in enumerate(labels))
    write_text(request.folder / "labelmap.txt", text)
    write_text(request.folder / "config.yml", CONFIG.format(**values))
    write_text(request.folder / "README.md", README.format(**values))
    return agreements


def _write_onnx(request: Request, agreements: list[Agreement]) -> None:
    """Write the file for the onnx detector, and compare its ROWS boxes with edgedet's best ones."""
    made_from = request.files.onnx
    model, meta = load_graph(made_from)
    yolonas_output(model, meta)
    reader = partial(onnx_reader, threads=request.threads, meta=meta, decode=decode)
    name = "model_frigate.onnx"
    with verified_file(request, name, made_from, reader, agreements, ROWS) as temporary:
        temporary.write_bytes(model.SerializeToString())


def yolonas_output(model: onnx.ModelProto, meta: ArtifactMeta) -> None:
    """Change a graph of raw outputs, in place, into one with rows (ROWS, 7): picture, x1 y1 x2 y2, score, class.

    Behind the last box the class is -1, which ends Frigate's reading.
    """
    t, boxes, scores, classes = append_nms(model, meta, XYXY_PIXELS, ROWS)
    last = t.constant("last_axis", [1], np.int64)
    there = t.op("Greater", [scores, t.constant("nothing", 0.0)], ".there")
    ids = t.op("Where", [there, classes, t.constant("no_class", -1.0)], ".ids_or_none")
    columns = [t.op("Unsqueeze", [value, last], f".column{at}") for at, value in enumerate((scores, ids))]
    t.op("Concat", [t.constant("picture", np.zeros((ROWS, 1))), boxes, *columns], OUTPUT, axis=1)
    name_output(model, OUTPUT, TensorProto.FLOAT, (ROWS, 7))


def decode(outputs: Outputs) -> Detections:
    """Read the rows as Frigate does, up to the first without a class."""
    rows = outputs[OUTPUT]
    ends = np.flatnonzero(rows[:, 6] < 0)
    rows = rows[: ends[0]] if len(ends) else rows
    return Detections(np.ascontiguousarray(rows[:, 1:5]), rows[:, 5], rows[:, 6].astype(np.int64))
