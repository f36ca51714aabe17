"""onnxruntime, OpenVINO, OpenCV and MediaPipe as functions from a picture to boxes in its pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edgedet import Detections, Detector
from edgedet.preprocess import Preprocessor

Find = Callable[[np.ndarray], Detections]  # a picture (H, W, 3) uint8 BGR -> boxes in its pixels


def four_outputs(run: Callable[[np.ndarray], list[np.ndarray]], detector: Detector) -> Find:
    """Return a finder for files of --for onnx-nms."""
    preprocess = Preprocessor(detector.meta.spec)

    def find(bgr: np.ndarray) -> Detections:
        frame = preprocess(bgr)
        number, boxes, scores, classes = run(frame.pixels)
        n = int(np.ravel(number)[0])
        boxes_xyxy = cut(boxes.reshape(-1, 4)[:n] * frame.scale_to_source, bgr)
        return Detections(boxes_xyxy, scores.ravel()[:n].astype(np.float32), classes.ravel()[:n].astype(np.int64))

    return find


def cut(boxes_xyxy: np.ndarray, bgr: np.ndarray) -> np.ndarray:
    """Return boxes (n, 4) cut to the picture, float32."""
    return np.clip(boxes_xyxy, 0, [bgr.shape[1], bgr.shape[0]] * 2).astype(np.float32)


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


def by_litert_as_mediapipe(path: Path, detector: Detector) -> Find:
    """Run model.tflite by LiteRT on pictures of its input's size, and make whole pixels of its boxes as MediaPipe does.

    Corner, width and height each lose their fraction, and only then are bounded by 0 and the picture's size: a box that
    reaches over an edge keeps its width (mediapipe/calculators/util/detection_transformation_calculator.cc).
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]["index"]
    outputs = [item["index"] for item in interpreter.get_output_details()]
    h, w = detector.meta.spec.input_hw

    def find(bgr: np.ndarray) -> Detections:
        interpreter.set_tensor(image, bgr[None, ..., ::-1].copy())
        interpreter.invoke()
        boxes_yxyx, classes, scores, number = (interpreter.get_tensor(place)[0] for place in outputs)
        count = int(number if np.ndim(number) == 0 else number[0])
        y1, x1, y2, x2 = boxes_yxyx[:count].T
        sizes = (w, h, w, h)
        x, y, width, height = (
            np.clip(np.trunc(part * np.float32(size)), 0, size)
            for part, size in zip((x1, y1, x2 - x1, y2 - y1), sizes, strict=True)
        )
        boxes_xyxy = np.stack([x, y, x + width, y + height], axis=1)
        return Detections(cut(boxes_xyxy, bgr), scores[:count], classes[:count].astype(np.int64))

    return find


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
        detections = task.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)).detections
        if not detections:
            return Detections.empty()
        corners = [
            (b.origin_x, b.origin_y, b.origin_x + b.width, b.origin_y + b.height)
            for b in (d.bounding_box for d in detections)
        ]
        ids = [names.index(d.categories[0].category_name) for d in detections]
        scores = np.array([d.categories[0].score for d in detections], np.float32)
        return Detections(cut(np.array(corners, np.float32), bgr), scores, np.array(ids, np.int64))

    return find


def stretched(detector: Detector) -> Find:
    """Return what edgedet finds in a picture that is stretched to the input, in pixels of the picture."""
    h, w = detector.meta.spec.input_hw

    def find(bgr: np.ndarray) -> Detections:
        detections = detector(cv2.resize(bgr, (w, h)))
        scale = np.array([bgr.shape[1] / w, bgr.shape[0] / h] * 2, np.float32)
        return Detections(detections.boxes_xyxy * scale, detections.scores, detections.class_ids)

    return find
