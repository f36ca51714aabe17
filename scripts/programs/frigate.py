"""Frigate's own detector plug-ins, from a checkout, as functions from a picture to boxes."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgedet import Detections, Detector
from programs.finders import Find, cut

SSD = {"model_type": "ssd", "input_pixel_format": "rgb"}
YOLONAS = {"model_type": "yolonas", "input_pixel_format": "bgr"}
_PLUGINS = {  # module -> class, and its own settings
    "cpu_tfl": ("CpuTfl", {"type": "cpu", "num_threads": 1}),
    "onnx": ("ONNXDetector", {"type": "onnx", "device": "CPU"}),
    "openvino": ("OvDetector", {"type": "openvino", "device": "CPU"}),
    "zmq_ipc": ("ZmqIpcDetector", {"type": "zmq", "request_timeout_ms": 30000}),
}


def by_frigate(tree: Path, module: str, path: str, labels: Path, detector: Detector, **model: Any) -> Find:
    """Run a model file, or for ``zmq_ipc`` the server at the endpoint ``path``, by one of Frigate's detectors."""
    sys.path.insert(0, str(tree))
    from frigate.detectors.detector_config import ModelConfig

    plugin = import_module(f"frigate.detectors.plugins.{module}")
    class_name, own = _PLUGINS[module]
    own = {**own, "endpoint": path} if module == "zmq_ipc" else own
    config_class = next(
        value for key, value in vars(plugin).items() if key.endswith("DetectorConfig") and key != "BaseDetectorConfig"
    )
    h, w = detector.meta.spec.input_hw
    settings = ModelConfig(
        path=path, labelmap_path=str(labels), width=w, height=h, input_tensor="nhwc", input_dtype="int", **model
    )
    api = getattr(plugin, class_name)(config_class(**own, model=settings))
    takes_bgr = model["input_pixel_format"] == "bgr"

    def find(bgr: np.ndarray) -> Detections:
        picture = cv2.resize(bgr, (w, h))  # as Frigate does with a region
        picture = picture if takes_bgr else picture[..., ::-1]
        rows = np.array(api.detect_raw(np.ascontiguousarray(picture)[None]))
        rows = rows[rows[:, 1] > 0]
        sides = [bgr.shape[1], bgr.shape[0]] * 2
        boxes_xyxy = cut(rows[:, [3, 2, 5, 4]] * sides, bgr)
        return Detections(boxes_xyxy, rows[:, 1].astype(np.float32), rows[:, 0].astype(np.int64))

    return find
