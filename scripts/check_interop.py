"""Run the files of `edgedet export --for` by the programs that they are for, and compare boxes with edgedet's own.

    python scripts/check_interop.py edgedet-out/model.onnx photographs/ [--frigate TREE] [--int8 model_int8.tflite]

Needs what is to be tried, in a virtual environment of its own: openvino, opencv-python 5, mediapipe, and for Frigate's
own detectors a checkout (TREE) with pydantic, pyzmq and what else it imports. What is missing is left out and named.
Prints a row of a table for each: boxes of both, pairs, the least IoU and the largest difference of scores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgedet import Detections, Detector
from edgedet.judge.agreement import match_boxes
from edgedet.preprocess import Preprocessor
from edgedet.stream.sources import open_source

SCORE = 0.4
Find = Callable[[np.ndarray], Detections]  # a picture (H, W, 3) uint8 BGR -> boxes in its pixels


def four_outputs(run: Callable[[np.ndarray], list[np.ndarray]], detector: Detector) -> Find:
    """Return a finder for files of --for onnx-nms."""
    preprocess = Preprocessor(detector.meta.spec)

    def find(bgr: np.ndarray) -> Detections:
        frame = preprocess(bgr)
        number, boxes, scores, classes = run(frame.pixels)
        n = int(np.ravel(number)[0])
        limits = np.array([bgr.shape[1], bgr.shape[0]] * 2, np.float32)
        boxes_xyxy = np.clip(boxes.reshape(-1, 4)[:n] * frame.scale_to_source, 0, limits).astype(np.float32)
        return Detections(boxes_xyxy, scores.ravel()[:n].astype(np.float32), classes.ravel()[:n].astype(np.int64))

    return find


def by_onnxruntime(path: Path, detector: Detector) -> Find:
    """Run model.onnx by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return four_outputs(lambda pixels: session.run(None, {"pixels": pixels}), detector)


def by_openvino(path: Path, detector: Detector) -> Find:
    """Run model.onnx by OpenVINO in float32."""
    import openvino

    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return four_outputs(lambda pixels: list(model(pixels).values()), detector)


def by_opencv(path: Path, detector: Detector) -> Find:
    """Run model.onnx by OpenCV's dnn."""
    net = cv2.dnn.readNetFromONNX(str(path))

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        net.setInput(pixels)
        return list(net.forward(["num", "boxes", "scores", "classes"]))

    return four_outputs(run, detector)


def by_mediapipe(path: Path, detector: Detector) -> Find:
    """Run model.tflite by MediaPipe's ObjectDetector, which stretches pictures: compare on stretched ones."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ObjectDetectorOptions(
        base_options=BaseOptions(model_asset_path=str(path)), score_threshold=0.1, max_results=100
    )
    task = vision.ObjectDetector.create_from_options(options)
    names = list(detector.class_names)

    def find(bgr: np.ndarray) -> Detections:
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        found = task.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)).detections
        if not found:
            return Detections.empty()
        corners = [
            (b.origin_x, b.origin_y, b.origin_x + b.width, b.origin_y + b.height)
            for b in (d.bounding_box for d in found)
        ]
        ids = [names.index(d.categories[0].category_name) for d in found]
        return Detections(
            np.clip(np.array(corners, np.float32), 0, [bgr.shape[1], bgr.shape[0]] * 2).astype(np.float32),
            np.array([d.categories[0].score for d in found], np.float32),
            np.array(ids, np.int64),
        )

    return find


def rows_as_detections(rows: np.ndarray, bgr: np.ndarray) -> Detections:
    """Turn Frigate's (20, 6) class, score, y1, x1, y2, x2 into boxes."""
    rows = rows[rows[:, 1] > 0]
    h, w = bgr.shape[:2]
    boxes = np.clip(rows[:, [3, 2, 5, 4]] * [w, h, w, h], 0, [w, h, w, h])
    return Detections(boxes.astype(np.float32), rows[:, 1].astype(np.float32), rows[:, 0].astype(np.int64))


def by_frigate(tree: Path, kind: str, path: Path, labels: Path, detector: Detector, **model: Any) -> Find:
    """Run a file by one of Frigate's own detectors."""
    sys.path.insert(0, str(tree))
    from importlib import import_module

    from frigate.detectors.detector_config import ModelConfig

    plugin = import_module(f"frigate.detectors.plugins.{kind}")
    name, own = {
        "cpu_tfl": ("CpuTfl", {"type": "cpu", "num_threads": 1}),
        "onnx": ("ONNXDetector", {"type": "onnx", "device": "CPU"}),
        "zmq_ipc": ("ZmqIpcDetector", {"type": "zmq", "endpoint": str(path), "request_timeout_ms": 30000}),
    }[kind]
    config_class = next(
        value for key, value in vars(plugin).items() if key.endswith("DetectorConfig") and key != "BaseDetectorConfig"
    )
    h, w = detector.meta.spec.input_hw
    settings = ModelConfig(
        path=str(path), labelmap_path=str(labels), width=w, height=h, input_tensor="nhwc", input_dtype="int", **model
    )
    api = getattr(plugin, name)(config_class(**own, model=settings))
    bgr_wanted = model.get("input_pixel_format") == "bgr"

    def find(bgr: np.ndarray) -> Detections:
        picture = cv2.resize(bgr, (w, h))  # as Frigate: stretched
        picture = picture if bgr_wanted else picture[..., ::-1]
        return rows_as_detections(np.array(api.detect_raw(np.ascontiguousarray(picture)[None])), bgr)

    return find


def compare(name: str, find: Find, reference: Find, pictures: list[np.ndarray]) -> None:
    """Print a row: boxes from SCORE up, pairs at IoU 0.5, their least and mean IoU, largest difference of scores."""
    found_n = wanted_n = pairs = 0
    ious, differences = [], []
    for bgr in pictures:
        found, wanted = find(bgr), reference(bgr)
        found, wanted = found[found.scores >= SCORE], wanted[wanted.scores >= SCORE]
        found_n, wanted_n = found_n + len(found), wanted_n + len(wanted)
        flags = match_boxes(found, wanted.boxes_xyxy, wanted.class_ids, np.zeros(len(wanted), bool), [0.5])
        pairs += int((flags == 1).sum())
        for box, score in zip(found.boxes_xyxy, found.scores, strict=True):
            overlap = np.array([iou(box, other) for other in wanted.boxes_xyxy]) if len(wanted) else np.zeros(1)
            if len(wanted) and overlap.max() >= 0.5:
                ious.append(overlap.max())
                differences.append(abs(score - wanted.scores[overlap.argmax()]))
    print(
        f"| {name} | {found_n} | {wanted_n} | {pairs} | {min(ious, default=0):.4f} | "
        f"{np.mean(ious) if ious else 0:.4f} | {max(differences, default=1):.1e} |",
        flush=True,
    )


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the overlap of two boxes."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    inter = float(sides.prod())
    return inter / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inter)


def stretched(detector: Detector) -> Find:
    """Return what edgedet finds in a picture that is stretched to the input, in pixels of the picture."""
    h, w = detector.meta.spec.input_hw

    def find(bgr: np.ndarray) -> Detections:
        found = detector(cv2.resize(bgr, (w, h)))
        scale = np.array([bgr.shape[1] / w, bgr.shape[0] / h] * 2, np.float32)
        return Detections(found.boxes_xyxy * scale, found.scores, found.class_ids)

    return find


def main() -> None:
    """Try everything that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photographs")
    parser.add_argument("--int8", type=Path, help="the raw INT8 .tflite file that model_int8.tflite was made from")
    parser.add_argument("--frigate", type=Path, help="a checkout of Frigate")
    parser.add_argument("--zmq", help="endpoint of a running edgedet serve --zmq of the same model")
    parser.add_argument("--most", type=int, default=50)
    args = parser.parse_args()
    out = args.model.parent
    pictures = [frame.bgr for frame in islice(open_source(args.photographs, lambda: False), args.most)]
    detector = Detector(str(args.model), 1, 0.1)
    plain: Find = detector
    print(
        f"{len(pictures)} pictures\n| program | its boxes | edgedet's | pairs | least IoU | mean IoU | scores within |"
    )
    print("|---|---|---|---|---|---|---|")
    wide = stretched(detector)
    onnx, tflite, frigate = out / "onnx-nms/model.onnx", out / "tflite-app/model.tflite", out / "frigate"
    tries: list[tuple[str, Callable[[], Find], Find]] = [
        ("onnxruntime", lambda: by_onnxruntime(onnx, detector), plain),
        ("OpenVINO", lambda: by_openvino(onnx, detector), plain),
        ("OpenCV dnn", lambda: by_opencv(onnx, detector), plain),
        ("MediaPipe, float", lambda: by_mediapipe(tflite, detector), wide),
    ]
    if args.int8:
        int8 = stretched(Detector(str(args.int8), 1, 0.1))
        tries.append(("MediaPipe, INT8", lambda: by_mediapipe(tflite.with_name("model_int8.tflite"), detector), int8))
    if args.frigate:
        tree, labels = args.frigate, frigate / "labelmap.txt"
        ssd = {"model_type": "ssd", "input_pixel_format": "rgb"}
        nas = {"model_type": "yolonas", "input_pixel_format": "bgr"}
        tries.append(
            (
                "Frigate cpu",
                lambda: by_frigate(tree, "cpu_tfl", frigate / "model.tflite", labels, detector, **ssd),
                wide,
            )
        )
        tries.append(
            (
                "Frigate onnx",
                lambda: by_frigate(tree, "onnx", frigate / "model_frigate.onnx", labels, detector, **nas),
                wide,
            )
        )
        if args.zmq:
            tries.append(("Frigate zmq", lambda: by_frigate(tree, "zmq_ipc", args.zmq, labels, detector, **ssd), wide))
    for name, opened, reference in tries:
        try:
            find = opened()
        except Exception as error:  # whatever another program raises is the answer
            print(f"{name}: not tried: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            continue
        compare(name, find, reference, pictures)


if __name__ == "__main__":
    main()
