"""Run the files of `edgedet export --for` by the programs that they are for, and compare boxes with edgedet's own.

    python scripts/check_interop.py edgedet-out/model.onnx photographs/ [--int8 edgedet-out/model_int8.tflite]
        [--frigate TREE] [--zmq ENDPOINT] [--deepstream TREE]

Needs what is to be tried, in a virtual environment of its own: openvino, opencv-python 5, mediapipe; for Frigate's own
detectors a checkout (TREE) with pydantic, pyzmq and what else it imports; for DeepStream's parser a checkout of
github.com/NVIDIA/DeepStream and g++. What is missing is left out and named. Prints a row of a table for each: boxes of
both, pairs, their IoU, the largest difference of scores, and milliseconds for a picture, the two in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from programs.deepstream import by_deepstream
from programs.finders import (
    Find,
    by_litert_as_mediapipe,
    by_mediapipe,
    by_onnxruntime,
    by_opencv,
    by_openvino,
    stretched,
)
from programs.frigate import SSD, YOLONAS, by_frigate

from edgedet import Detections, Detector
from edgedet.judge.agreement import compute_iou, count_matches
from edgedet.stream.sources import open_source

SCORE = 0.4
Try = tuple[str, Callable[[], Find], Find]
HEAD = """| program | pictures | its boxes | edgedet's | pairs | least IoU | mean IoU | scores within | ms, own ms |
|---|---|---|---|---|---|---|---|---|"""


def compare(name: str, find: Find, reference: Find, pictures: Sequence[np.ndarray]) -> None:
    """Print a row: boxes from SCORE up, pairs at IoU 0.5, their least and mean IoU, largest difference of scores."""
    actual_n = expected_n = pairs = 0
    ious, differences, times_ms = [], [], []
    for bgr in pictures:
        started = time.perf_counter()
        actual = find(bgr)
        middle = time.perf_counter()
        expected = reference(bgr)
        times_ms.append(((middle - started) * 1e3, (time.perf_counter() - middle) * 1e3))
        actual, expected = actual[actual.scores >= SCORE], expected[expected.scores >= SCORE]
        actual_n, expected_n = actual_n + len(actual), expected_n + len(expected)
        pairs += count_matches(actual, expected, 0.5)[0]
        if len(actual) and len(expected):
            overlaps = compute_iou(actual.boxes_xyxy, expected.boxes_xyxy)
            best, rows = overlaps.argmax(axis=1), np.arange(len(actual))
            paired = overlaps[rows, best] >= 0.5
            ious += overlaps[rows, best][paired].tolist()
            differences += np.abs(actual.scores - expected.scores[best])[paired].tolist()
    its_ms, our_ms = np.median(np.array(times_ms), axis=0)
    print(
        f"| {name} | {len(pictures)} | {actual_n} | {expected_n} | {pairs} | {min(ious, default=0):.4f} | "
        f"{np.mean(ious) if ious else 0:.4f} | {max(differences, default=1):.1e} | {its_ms:.0f}, {our_ms:.0f} |",
        flush=True,
    )


def cut_at_last_pixel(detector: Detector) -> Find:
    """Return a finder whose boxes are cut as NVIDIA's parser does: at the index of the input's last pixel."""
    h, w = detector.meta.spec.input_hw

    def find(bgr: np.ndarray) -> Detections:
        detections = detector(bgr)
        scale = max(bgr.shape[0] / h, bgr.shape[1] / w)
        limits = np.array([w - 1, h - 1] * 2, np.float32) * scale
        return replace(detections, boxes_xyxy=np.minimum(detections.boxes_xyxy, limits).astype(np.float32))

    return find


def at_input_size(find: Find, detector: Detector) -> Find:
    """Return a finder that is given the picture at the model's input size, so that its program need not resize."""
    h, w = detector.meta.spec.input_hw
    return lambda bgr: find(cv2.resize(bgr, (w, h)))


def opened_at_input_size(opened: Callable[[], Find], detector: Detector) -> Find:
    """Open a program, and give it pictures as ``at_input_size`` does."""
    return at_input_size(opened(), detector)


def tries_of(args: argparse.Namespace, detector: Detector) -> list[Try]:
    """Return what to run, each with what it is compared with."""
    out: Path = args.model.parent
    plain: Find = detector
    wide = stretched(detector)
    onnx, tflite, frigate = out / "onnx-nms/model.onnx", out / "tflite-app/model.tflite", out / "frigate"
    tries: list[Try] = [
        ("onnxruntime, onnx-nms", partial(by_onnxruntime, onnx, detector), plain),
        ("OpenVINO, onnx-nms", partial(by_openvino, onnx, detector), plain),
        ("OpenCV dnn, onnx-nms", partial(by_opencv, onnx, detector), plain),
    ]
    if args.deepstream:
        model = out / "deepstream/model.onnx"
        opened = partial(by_deepstream, args.deepstream, model, detector, 0.1)
        tries += [
            ("DeepStream's parser, deepstream", opened, plain),
            ("DeepStream's parser, edgedet's boxes cut at the last pixel", opened, cut_at_last_pixel(detector)),
        ]
    kinds = [("float", tflite, detector)]
    if args.int8:
        kinds.append(("INT8", tflite.with_name("model_int8.tflite"), Detector(str(args.int8), 1, 0.1)))
    for kind, path, own in kinds:
        opened, sized = partial(by_mediapipe, path, own), at_input_size(own, own)
        name = f"MediaPipe, tflite-app, {kind}"
        tries += [
            (name, opened, stretched(own)),
            (f"{name}, pictures of the input's size", partial(opened_at_input_size, opened, own), sized),
            (
                f"{name}, likewise, the file's boxes by LiteRT in whole pixels",
                partial(opened_at_input_size, opened, own),
                at_input_size(by_litert_as_mediapipe(path, own), own),
            ),
        ]
    if args.frigate:
        labels = frigate / "labelmap.txt"
        plugins = [
            ("cpu_tfl", str(frigate / "model.tflite"), SSD),
            ("onnx", str(frigate / "model_frigate.onnx"), YOLONAS),
            ("openvino", str(frigate / "model_frigate.onnx"), YOLONAS),
        ]
        if args.zmq:
            plugins.append(("zmq_ipc", args.zmq, SSD))
        for module, place, settings in plugins:
            opened = partial(by_frigate, args.frigate, module, place, labels, detector, **settings)
            tries.append((f"Frigate {module}", opened, wide))
    return tries


def main() -> None:
    """Try everything that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photographs")
    parser.add_argument("--int8", type=Path, help="the raw INT8 .tflite file that model_int8.tflite was made from")
    parser.add_argument("--frigate", type=Path, help="a checkout of Frigate")
    parser.add_argument("--zmq", help="endpoint of a running edgedet serve --zmq of the same model")
    parser.add_argument("--deepstream", type=Path, help="a checkout of github.com/NVIDIA/DeepStream")
    parser.add_argument("--most", type=int, default=50)
    parser.add_argument("--only", default="", help="run those whose name holds this text")
    args = parser.parse_args()
    pictures = [frame.bgr for frame in islice(open_source(args.photographs, lambda: False), args.most)]
    print(HEAD)
    for name, opened, reference in tries_of(args, Detector(str(args.model), 1, 0.1)):
        if args.only.lower() not in name.lower():
            continue
        try:
            find = opened()
        except Exception as error:  # whatever another program raises is the answer
            print(f"{name}: not tried: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            continue
        compare(name, find, reference, pictures)


if __name__ == "__main__":
    main()
