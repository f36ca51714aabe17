"""DeepStream's stock SSD parser, compiled without TensorRT, as a function from a picture to boxes.

The parser and the headers are NVIDIA's, from a checkout of github.com/NVIDIA/DeepStream; TensorRT's three headers, of
which it uses only names, are stubs. What nvinfer does before the parser, resizing and the network, is edgedet's
pre-processing and onnxruntime here.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgedet import Detections, Detector
from edgedet.export.interop.deepstream import INPUT, NAMES, planes
from edgedet.preprocess import Preprocessor
from programs.finders import Find, cut

PARSER = "src/utils/nvdsinfer_customparser/nvdsinfer_custombboxparser.cpp"
STUBS = {
    "NvInfer.h": "namespace nvinfer1 { class INetworkDefinition; class IBuilder; class IBuilderConfig; "
    "class ICudaEngine; class IPluginFactory; enum class DataType : int; }\n",
    "NvInferRuntime.h": "",
    "NvOnnxParser.h": "",
}
_FLOATS = ctypes.POINTER(ctypes.c_float)


def compile_parser(tree: Path, folder: Path) -> Any:
    """Return the function ``edgedet_parse`` of deepstream.cc, linked with NVIDIA's parser; needs g++."""
    for name, text in STUBS.items():
        (folder / name).write_text(text)
    library = folder / "parser.so"
    sources = [str(Path(__file__).with_suffix(".cc")), str(tree / PARSER)]
    includes = [f"-I{folder}", f"-I{tree / 'includes'}"]
    flags = ["-std=c++14", "-O1", "-shared", "-fPIC"]
    subprocess.run(["g++", *flags, *includes, *sources, "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).edgedet_parse
    function.restype = ctypes.c_int
    function.argtypes = [_FLOATS] * 4 + [ctypes.c_uint] * 4 + [ctypes.c_float, _FLOATS]
    return function


def by_deepstream(tree: Path, path: Path, detector: Detector, threshold: float) -> Find:
    """Run model.onnx of --for deepstream by onnxruntime, and read its outputs by NVIDIA's parser."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        parse = compile_parser(tree, Path(folder))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [NAMES.number, NAMES.boxes, NAMES.scores, NAMES.classes]
    preprocess = Preprocessor(detector.meta.spec)
    h, w = detector.meta.spec.input_hw

    def find(bgr: np.ndarray) -> Detections:
        frame = preprocess(bgr)
        outputs = [np.ascontiguousarray(value) for value in session.run(names, {INPUT: planes(frame.pixels)})]
        rows = outputs[3].shape[1]
        table = np.zeros((rows, 6), np.float32)
        buffers = [value.ctypes.data_as(_FLOATS) for value in (*outputs, table)]
        n = parse(*buffers[:4], rows, w, h, len(detector.class_names), threshold, buffers[4])
        if n < 0:
            raise RuntimeError("NvDsInferParseCustomTfSSD refused the outputs")
        corners = np.concatenate([table[:n, :2], table[:n, :2] + table[:n, 2:4]], axis=1)
        boxes_xyxy = cut(corners * frame.scale_to_source, bgr)
        return Detections(boxes_xyxy, table[:n, 4].copy(), table[:n, 5].astype(np.int64))

    return find
