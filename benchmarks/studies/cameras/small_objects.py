"""How many labelled people are detected in the whole picture and in regions: near ones, and far ones.

    python -m edgedet.benchmarks.studies.cameras.small_objects vtest.avi test.json --out motion-small.jpg

The large picture is made: the clip's frame at its own size in the middle of 2560 x 1440 pixels of a blurred background.
The labels were made by machine (shared/data/street), for frames that the bundled model was not trained on.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np

from edgedet.demo import int8_model
from edgedet.detector import Detector
from edgedet.motion.gate import MotionRules
from edgedet.motion.gated import GatedDetector
from edgedet.motion.packing import make_look
from edgedet.track.byte_track import iou_of
from edgedet.types import Detections, Frame

LARGE_WH = (2560, 1440)
SMALL_PX = 80  # height of a person: a quarter of the labels are smaller
_SHOWN = 20  # the labelled frame in the picture that is written


def read_labels(path: Path) -> dict[int, np.ndarray]:
    """Return (n, 4) boxes by the frame's number."""
    coco = json.loads(path.read_text())
    boxes: dict[int, list[list[float]]] = defaultdict(list)
    for annotation in coco["annotations"]:
        x, y, w, h = annotation["bbox"]
        boxes[annotation["image_id"]].append([x, y, x + w, y + h])
    return {image["id"]: np.array(boxes[image["id"]], float).reshape(-1, 4) for image in coco["images"]}


def count_recalled(labels: np.ndarray, detections: Detections) -> Counter[str]:
    """Return how many labels there are, small and others, and how many have a detection at IoU 0.5."""
    iou = iou_of(labels, detections.boxes_xyxy.astype(float))
    there = iou.max(axis=1, initial=0.0) >= 0.5
    small = labels[:, 3] - labels[:, 1] < SMALL_PX
    return Counter(
        {
            "small": int(small.sum()),
            "small recalled": int((small & there).sum()),
            "others": int((~small).sum()),
            "others recalled": int((~small & there).sum()),
        }
    )


def draw(bgr: np.ndarray, detections: Detections, part: tuple[slice, slice]) -> np.ndarray:
    """Return a part of the picture with boxes."""
    shown = bgr.copy()
    for x1, y1, x2, y2 in detections.boxes_xyxy.astype(int).tolist():
        cv2.rectangle(shown, (x1, y1), (x2, y2), (0, 220, 0), 3)
    return shown[part]


def main() -> None:
    """Print a table, and write a picture of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--out", type=Path, help="a picture of the large one: whole on the left, regions on the right")
    args = parser.parse_args()
    model = int8_model()
    if model is None:
        raise SystemExit("this study runs the bundled INT8 model: pip install 'edgedet[tflite]'")
    detector = Detector(model, threads=1)
    labels, capture, pictures = read_labels(args.labels), cv2.VideoCapture(str(args.clip)), {}
    for number in range(max(labels) + 1):
        ok, bgr = capture.read()
        if ok:
            pictures[number] = bgr
    height, width = pictures[0].shape[:2]
    background = cv2.GaussianBlur(cv2.resize(pictures[0], LARGE_WH), (0, 0), 25)
    left, top = (LARGE_WH[0] - width) // 2, (LARGE_WH[1] - height) // 2
    input_px = min(detector.meta.spec.input_hw)
    for large in (False, True):
        gate = GatedDetector(make_look(detector.detect, input_px), MotionRules(), input_px)
        counts: dict[str, Counter[str]] = {"whole": Counter(), "regions": Counter()}
        for place, number in enumerate(sorted(labels)):
            bgr, boxes = pictures[number], labels[number]
            if large:
                bgr = background.copy()
                bgr[top : top + height, left : left + width] = pictures[number]
                boxes = boxes + [left, top, left, top]
            whole = detector(bgr)
            regions = gate.detect(Frame(bgr, number / 10.0, number)).detections
            counts["whole"] += count_recalled(boxes, whole)
            counts["regions"] += count_recalled(boxes, regions)
            if large and args.out is not None and place == _SHOWN:
                part = slice(top, top + height), slice(left, left + width)
                both = np.hstack([draw(bgr, whole, part), draw(bgr, regions, part)])
                cv2.imwrite(str(args.out), cv2.resize(both, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA))
        for name, count in counts.items():
            print(
                f"{'2560 x 1440' if large else '768 x 576':<12} {name:<8} "
                f"below {SMALL_PX} px: {count['small recalled']} of {count['small']}, "
                f"others: {count['others recalled']} of {count['others']}"
            )


if __name__ == "__main__":
    main()
