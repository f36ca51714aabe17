"""``--for deepstream``: what NVIDIA's nvinfer element reads, with the stock parser of TensorFlow's SSD models.

Named outputs as ``NvDsInferParseCustomTfSSD`` looks for them, all float32 (DeepStream 9.1,
nvdsinfer_custombboxparser.cpp).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from onnx import TensorProto

from edgedet.artifact import ArtifactMeta
from edgedet.export.interop.graph_input import load_graph, take_float_planes
from edgedet.export.interop.onnx_detections import YXYX_SHARES, FourNames, four_outputs
from edgedet.export.interop.onnx_reader import Outputs, first_rows, onnx_reader
from edgedet.export.interop.target import Agreement, Request, labels_text, verified_file, write_text
from edgedet.types import Detections

NAMES = FourNames("num_detections", "detection_boxes", "detection_scores", "detection_classes", TensorProto.FLOAT)
INPUT = "image"
# nvinfer derives an engine's name from the ONNX file's: batch, GPU and precision (network-mode 0 FP32, 1 INT8, 2 FP16)
CONFIG = """# nvinfer, for {name} by edgedet export --for deepstream. Paths are relative to this file.
[property]
gpu-id=0
onnx-file={onnx}
model-engine-file={onnx}_b1_gpu0_fp16.engine
labelfile-path=labels.txt
batch-size=1
network-mode=2
network-type=0
process-mode=1
infer-dims=3;{h};{w}
net-scale-factor=1.0
model-color-format=1
maintain-aspect-ratio=1
symmetric-padding=0
num-detected-classes={classes}
gie-unique-id=1
interval=0
parse-bbox-func-name=NvDsInferParseCustomTfSSD
custom-lib-path=/opt/nvidia/deepstream/deepstream/lib/libnvds_infercustomparser.so
cluster-mode=4

[class-attrs-all]
pre-cluster-threshold=0.4
"""
README = """{name} by `edgedet export --for deepstream`: {files}, config_infer_primary.txt, labels.txt.
Copy the folder to the machine with DeepStream and name config_infer_primary.txt in the pipeline's nvinfer element.
nvinfer builds an FP16 engine at the first start, in minutes, by TensorRT 8.5 or newer; cluster-mode 4: NMS is in it.
nvinfer fills the border with black, edgedet with the training's colour; tracker and interval are yours to set.
{int8}
"""


def write(request: Request) -> list[Agreement]:
    """Write the ONNX files, config_infer_primary.txt, labels.txt and README.md into the target's folder."""
    agreements: list[Agreement] = []
    names = [_write_model(request, f"model{end}.onnx", path, agreements) for end, path in request.files.onnx_files()]
    h, w = request.meta.spec.input_hw
    values = {"name": request.files.name, "onnx": "model.onnx", "h": h, "w": w}
    write_text(
        request.folder / "config_infer_primary.txt",
        CONFIG.format(**values, classes=request.meta.spec.num_classes),
    )
    write_text(request.folder / "labels.txt", labels_text(request.meta))
    int8 = (
        "model_int8.onnx holds Q/DQ: build it by trtexec --onnx=model_int8.onnx --int8 --fp16 --saveEngine=FILE and "
        "name FILE as model-engine-file."
        if request.files.int8_onnx is not None
        else "For INT8 export with --int8."
    )
    write_text(request.folder / "README.md", README.format(name=request.files.name, files=", ".join(names), int8=int8))
    return agreements


def _write_model(request: Request, name: str, made_from: Path, agreements: list[Agreement]) -> str:
    model, meta = load_graph(made_from)
    take_float_planes(model, meta, INPUT)
    four_outputs(model, meta, YXYX_SHARES, NAMES)
    reader = partial(onnx_reader, threads=request.threads, meta=meta, decode=partial(_decode, meta), feed=planes)
    with verified_file(request, name, made_from, reader, agreements) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return name


def planes(pixels: np.ndarray) -> np.ndarray:
    """Return (1, 3, H, W) float32 of camera bytes (1, H, W, 3), as nvinfer makes them with net-scale-factor 1."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)


def _decode(meta: ArtifactMeta, outputs: Outputs) -> Detections:
    """Read the outputs as the stock parser does."""
    h, w = meta.spec.input_hw
    boxes = outputs[NAMES.boxes][..., [1, 0, 3, 2]] * np.array([w, h, w, h], np.float32)
    return first_rows(outputs[NAMES.number], boxes, outputs[NAMES.scores], outputs[NAMES.classes])
