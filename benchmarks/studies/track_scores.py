"""MOTA and IDF1 of edgedet's tracks: synthetic scenes whose truth is known, and a clip with labels made by machine.

    python -m edgedet.benchmarks.studies.track_scores ../shared/media/vtest.avi ../shared/data/street/test.json

The measures are those of TrackEval, in the port of the package trackers. The clip's labels have boxes and no tracks;
their ids are made by another tracker (OC-SORT of the same package) on the labels, so they are no truth: the figures say
how far the two agree. Needs the developers' packages and a checkout; tests/support/scenes.py makes the scenes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from edgedet.demo import int8_model
from edgedet.detector import Detector
from edgedet.motion.gate import MotionRules
from edgedet.motion.gated import GatedDetector
from edgedet.motion.packing import make_look
from edgedet.track.byte_track import LOW_SHARE, ByteTracker
from edgedet.types import Detections, Frame

SCORE = 0.4
Tracked = list[tuple[np.ndarray, np.ndarray]]  # of each frame: ids (n,) and boxes (n, 4)


def scores_of(truth: Tracked, tracks: Tracked) -> dict[str, float]:
    """Return MOTA, IDF1 and the number of identity switches, at IoU 0.5."""
    from trackers.eval import box_iou, compute_clear_metrics, compute_identity_metrics

    arguments = (
        [ids for ids, _ in truth],
        [ids for ids, _ in tracks],
        [box_iou(a, b) for (_, a), (_, b) in zip(truth, tracks, strict=True)],
    )
    clear, identity = compute_clear_metrics(*arguments), compute_identity_metrics(*arguments)
    return {"MOTA": clear["MOTA"], "IDF1": identity["IDF1"], "switches": clear["IDSW"]}


def _renumbered(frames: Tracked) -> Tracked:
    """Return the frames with ids from 0 up without gaps, as the measures want them."""
    numbers: dict[int, int] = {}
    return [
        (np.array([numbers.setdefault(int(id), len(numbers)) for id in ids], np.int64), boxes) for ids, boxes in frames
    ]


def track(detections: list[Detections], times_s: list[float], score: float) -> Tracked:
    """Return edgedet's tracks of detections: what a run shows."""
    tracker = ByteTracker()
    frames = []
    for detected, time_s in zip(detections, times_s, strict=True):
        ids = tracker.update(detected, time_s, score)
        shown = (ids > 0) & (detected.scores >= score)
        frames.append((ids[shown], detected.boxes_xyxy[shown].astype(np.float64)))
    return _renumbered(frames)


def labelled_tracks(labels: Path) -> tuple[list[int], Tracked]:
    """Return the numbers of labelled frames, and their boxes with ids by OC-SORT."""
    import supervision
    from trackers import OCSORTTracker

    coco = json.loads(labels.read_text())
    boxes: dict[int, list[list[float]]] = defaultdict(list)
    for annotation in coco["annotations"]:
        x, y, w, h = annotation["bbox"]
        boxes[annotation["image_id"]].append([x, y, x + w, y + h])
    numbers = sorted(image["id"] for image in coco["images"])
    tracker, frames = OCSORTTracker(frame_rate=5.0, minimum_consecutive_frames=1), []
    for number in numbers:
        xyxy = np.array(boxes[number], np.float32).reshape(-1, 4)
        known = tracker.update(
            supervision.Detections(xyxy, confidence=np.ones(len(xyxy), np.float32), class_id=np.zeros(len(xyxy), int))
        )
        there = known.tracker_id >= 0
        frames.append((known.tracker_id[there], known.xyxy[there].astype(np.float64)))
    return numbers, _renumbered(frames)


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("labels", type=Path)
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))
    from scenes import walking_scene  # type: ignore[import-not-found]

    rows: dict[str, dict[str, float]] = {}
    for name, options in (("3 walkers", {"objects": 3, "missed": 0.02}), ("12 walkers", {"objects": 12})):
        for fps in (10.0, 5.0):
            scores = []
            for seed in range(6):
                scene = walking_scene(seed, fps=fps, **options)
                truth = [(frame.ids, frame.boxes_xyxy) for frame in scene]
                seen = [frame.detections for frame in scene]
                scores.append(scores_of(_renumbered(truth), track(seen, [frame.time_s for frame in scene], 0.5)))
            rows[f"synthetic, {name}, {fps:g} fps"] = {
                key: float(np.mean([s[key] for s in scores])) for key in scores[0]
            }
    model = int8_model()
    if model is None:
        raise SystemExit("this study runs the bundled INT8 model: pip install 'edgedet[tflite]'")
    numbers, truth = labelled_tracks(args.labels)
    capture, pictures = cv2.VideoCapture(str(args.clip)), {}
    for number in range(max(numbers) + 1):
        ok, bgr = capture.read()
        if ok and number in set(numbers):
            pictures[number] = bgr
    detector = Detector(model, threads=1, score=SCORE * LOW_SHARE)
    input_px = min(detector.meta.spec.input_hw)
    gate = GatedDetector(make_look(detector.detect, input_px), MotionRules(), input_px)
    frames = [Frame(pictures[number], number / 10.0, number) for number in numbers]
    times_s = [frame.captured_s for frame in frames]
    rows["vtest.avi, every frame"] = scores_of(truth, track([detector(frame) for frame in frames], times_s, SCORE))
    gated = [gate.detect(frame).detections for frame in frames]
    rows["vtest.avi, --motion"] = scores_of(truth, track(gated, times_s, SCORE))
    print(f"{'scene':<34}  MOTA   IDF1   switches")
    for name, row in rows.items():
        print(f"{name:<34}  {row['MOTA']:.3f}  {row['IDF1']:.3f}  {row['switches']:>6.1f}")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
