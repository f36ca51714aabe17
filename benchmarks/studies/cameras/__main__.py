"""How many cameras one detector serves, with and without the motion gate. Run from a checkout; see docs/motion.md.

    nice -n -15 python -m edgedet.benchmarks.studies.cameras vtest.avi --out street.json

Each camera shows the same scene from another moment on: stretches of the clip, and between them, for the rest of the
time, the clip's own background with a camera's noise. Frames come from memory, so no decoding is in the figures. The
schedule is a simulation (schedule.py): each step takes the time that is measured for it first; all else is real.

The reference is detection on every frame with the same tracker (recall.py).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from edgedet.demo import int8_model
from edgedet.detector import Detector
from edgedet.motion.gate import MotionGate, MotionRules
from edgedet.motion.gated import GatedDetector
from edgedet.motion.packing import make_look
from edgedet.track.byte_track import LOW_SHARE, ByteTracker
from edgedet.types import Detections, Frame

from .recall import SCORE, EventLog, is_recalled, lasting
from .scene import Scene, make_scene
from .schedule import Costs, Every, Served, simulate

THREADS = 2
WARM_UP_S = 3.0  # all cameras start at once, and the first look at each is at the whole picture


def measure_costs(scene: Scene, detector: Detector, repeats: int = 60) -> Costs:
    """Return the wall and CPU time of each step on the scene's own pictures: medians of looks, means of the rest."""
    gate, tracker = MotionGate(MotionRules()), ByteTracker()
    walls: dict[str, list[float]] = {"look": [], "gate": [], "track": [], "cpu": []}

    def timed(name: str, started: float) -> float:
        walls[name].append((time.perf_counter() - started) * 1e3)
        return time.perf_counter()

    for number in range(repeats):
        frame = Frame(scene.picture(number), number / scene.fps, number)
        cpu_s, began = time.process_time(), time.perf_counter()
        detections = detector.detect(frame).detections
        walls["cpu"].append((time.process_time() - cpu_s) * 1e3)
        began = timed("look", began)
        gate.plan(frame, detections)
        began = timed("gate", began)
        tracker.update(detections, frame.captured_s, SCORE)
        timed("track", began)
    middle = {name: float(np.median(values[5:])) for name, values in walls.items()}
    return Costs(middle["look"], middle["cpu"], float(np.mean(walls["gate"])), float(np.mean(walls["track"])))


class KnownPictures:
    """The detections of each whole picture, each made once."""

    def __init__(self, scene: Scene, detector: Detector) -> None:
        self._scene, self._detector = scene, detector
        self._known: dict[int, Detections] = {}

    def of(self, frame: Frame) -> Detections:
        """Return the detections of one of the scene's pictures."""
        if id(frame.bgr) not in self._known:
            self._known[id(frame.bgr)] = self._detector(frame.bgr)
        return self._known[id(frame.bgr)]


def count_recalled(scene: Scene, reference: EventLog, served: Served) -> tuple[int, int, int]:
    """Return how many events were recalled, how many there were in the cameras' time, and how many were reported."""
    recalled = total = reported = 0
    ahead = lasting(reference.events(), scene.fps)
    for log in served.logs.values():
        low, high = min(log.processed) + WARM_UP_S * scene.fps, max(log.processed)
        for round_at in (0, len(scene)):  # a camera may pass the scene's end and begin again
            for event in ahead:
                moved = type(event)({number + round_at: box for number, box in event.boxes.items()})
                if moved.numbers[0] < low or moved.numbers[-1] > high:
                    continue
                total += 1
                recalled += is_recalled(moved, log)
        reported += len(lasting(log.events(), scene.fps))
    return recalled, total, reported


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--fps", type=float, default=5.0)
    parser.add_argument("--busy", type=float, default=5.0, help="seconds of each stretch of the clip")
    parser.add_argument("--quiet", type=float, nargs="+", default=[0.0, 20.0], help="seconds between them")
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--cameras", type=int, nargs="*", default=[1, 2, 4, 8, 16], help="without the gate")
    parser.add_argument("--gated", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32], help="cameras with the gate")
    parser.add_argument("--costs", help="LOOK,CPU,GATE,TRACK in ms, as measured at another time")
    parser.add_argument("--out", type=Path, help="write this JSON file, for plot.py")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    model = int8_model()
    if model is None:
        raise SystemExit("this study runs the bundled INT8 model: pip install 'edgedet[tflite]'")
    detector = Detector(model, threads=THREADS, score=SCORE * LOW_SHARE)
    input_px = min(detector.meta.spec.input_hw)
    costs = Costs(*map(float, args.costs.split(","))) if args.costs else None
    rows = []
    for quiet_s in args.quiet:
        scene = make_scene(args.clip, args.fps, args.busy, quiet_s)
        costs = costs or measure_costs(scene, detector)
        known = KnownPictures(scene, detector)
        reference = EventLog(scene.fps)
        for number in range(len(scene)):
            reference.add(number, known.of(Frame(scene.picture(number), 0.0, number)))
        share = args.busy / (args.busy + quiet_s)
        print(f"busy {share:.0%}, {len(scene)} pictures, {asdict(costs)}, load {os.getloadavg()[0]:.1f}")
        print("cameras  gate     served  recall          age p95 ms  max/min  CPU s/camera/s  runs/frame")
        look = make_look(detector.detect, input_px)

        def look_once(parts, look=look, known=known):
            part = parts[0]
            if len(parts) == 1 and part.square == (0, 0, part.frame.bgr.shape[1], part.frame.bgr.shape[0]):
                return [known.of(part.frame)]
            return look(parts)

        for gated, counts in ((False, args.cameras), (True, args.gated)):
            for cameras in counts:
                run = GatedDetector(look_once, MotionRules(), input_px) if gated else Every(known.of)
                served = simulate(scene, cameras, args.seconds, run, costs, gated)
                recalled, total, reported = count_recalled(scene, reference, served)
                row = {
                    "busy": share,
                    "cameras": cameras,
                    "gate": gated,
                    "served": served.served,
                    "recalled": recalled,
                    "events": total,
                    "reported": reported,
                    "age_p95_ms": float(np.percentile(served.ages_ms, 95)),
                    "fairness": served.fairness,
                    "cpu_s_per_camera_s": served.cpu_s / args.seconds / cameras,
                    "runs_per_frame": served.runs / sum(served.captured.values()),
                }
                rows.append(row)
                print(
                    f"{cameras:>7}  {'motion' if gated else 'none':<7}  {row['served']:>5.1%}  "
                    f"{recalled:>4}/{total:<4} {recalled / max(total, 1):>6.1%} {row['age_p95_ms']:>9.0f}  "
                    f"{row['fairness']:>7.2f}  {row['cpu_s_per_camera_s']:>9.3f}  {row['runs_per_frame']:>9.3f}",
                    flush=True,
                )
    result = {"rows": rows, "fps": args.fps, "threads": THREADS, "costs": None if costs is None else asdict(costs)}
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
