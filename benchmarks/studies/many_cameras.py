"""How many cameras one detector serves, with and without the motion gate. Run from a checkout; see docs/motion.md.

    nice -n -15 python -m edgedet.benchmarks.studies.many_cameras vtest.avi --seconds 20

A SIMULATION in one point: each camera shows the same scene from another moment on, which is real frames of the clip for
a part of the time and, for the rest, the clip's own background (the median of its frames) with a camera's noise. Frames
come from memory, so no decoding is in the figures. All else is the real thing: the source of several cameras, the
bundled INT8 model, gate, tracker. With and without the gate take turns in one run.

The reference is detection on every frame with the same tracker. A reference track of a second or more is recalled where
one live track lies on it (IoU 0.5) in half of the frames that were looked at in its time, and in two of them at least.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import threading
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from edgedet.demo import int8_model
from edgedet.detector import Detector
from edgedet.motion.gate import MotionRules
from edgedet.motion.gated import GatedDetector, make_look
from edgedet.stream.live import LiveSource
from edgedet.track.byte_track import LOW_SHARE, ByteTracker, iou_of

NOISE = 2.0  # standard deviation of a level, as a USB camera has in daylight
LEAST_TRACK_S = 1.0
LEAST_IOU = 0.5
SCORE = 0.4


class MemoryCamera:
    """A capture that plays frames from memory at their rate, from a moment on, again and again."""

    def __init__(self, frames: list[np.ndarray], fps: float, start: int) -> None:
        self._frames, self._fps, self._at = frames, fps, start
        self._due_s = time.monotonic()
        self._captured_s = 0.0

    def read(self, into=None):
        """Return the next frame when it is due."""
        self._wait()
        frame = self._frames[self._at % len(self._frames)]
        return True, frame

    def grab(self) -> bool:
        """Pass over one frame, when it is due."""
        self._wait()
        return True

    def _wait(self) -> None:
        now = time.monotonic()
        self._due_s = max(self._due_s + 1 / self._fps, now - 0.5)
        time.sleep(max(0.0, self._due_s - now))
        self._at += 1
        self._captured_s = time.monotonic()

    def captured_s(self) -> float:
        """Return when the last frame was due."""
        return self._captured_s

    def get(self, prop: int) -> float:
        """Return the rate, and 0 for all else."""
        return {cv2.CAP_PROP_FPS: self._fps}.get(prop, 0.0)

    def release(self) -> None:
        """Hold nothing."""


def scene_of(clip: Path, fps: float, busy_s: float, quiet_s: float) -> list[np.ndarray]:
    """Return frames: the clip for ``busy_s``, then its background with noise for ``quiet_s``."""
    capture = cv2.VideoCapture(str(clip))
    step = max(1, round((capture.get(cv2.CAP_PROP_FPS) or 10.0) / fps))
    taken: list[np.ndarray] = []
    index = 0
    while len(taken) < 120:
        ok, bgr = capture.read()
        if not ok:
            break
        if index % step == 0:
            taken.append(bgr)
        index += 1
    background = np.median(np.stack(taken[::4]), axis=0)
    rng = np.random.default_rng(0)
    busy = taken[: round(busy_s * fps)]
    quiet = [
        np.clip(background + rng.normal(0, NOISE, (*background.shape[:2], 1)), 0, 255).astype(np.uint8)
        for _ in range(round(quiet_s * fps))
    ]
    return busy + quiet


def reference_tracks(frames: list[np.ndarray], fps: float, detector: Detector) -> list[dict[int, np.ndarray]]:
    """Return the tracks of detection on every frame: the box by the frame's number, of those that last."""
    tracker = ByteTracker()
    tracks: dict[int, dict[int, np.ndarray]] = defaultdict(dict)
    for index, bgr in enumerate(frames):
        tracker.update(detector(bgr), index / fps, SCORE)
        for track in tracker.tracks:
            if track.seen:
                tracks[track.id][index] = np.array(track.box_xyxy)
    return [boxes for boxes in tracks.values() if len(boxes) >= LEAST_TRACK_S * fps]


def run_cameras(frames, fps: float, cameras: int, detect, seconds: float) -> tuple[dict, dict]:
    """Run for some seconds; return the figures and, by camera, the live boxes by track and by the scene's frame."""
    starts = {f"camera {number}": number * len(frames) // cameras for number in range(cameras)}
    ending = threading.Event()
    openers = [(name, lambda start=start: MemoryCamera(frames, fps, start)) for name, start in starts.items()]
    live: dict[str, dict[int, dict[int, np.ndarray]]] = defaultdict(lambda: defaultdict(dict))
    seen: dict[str, set[int]] = defaultdict(set)
    trackers: dict[str, ByteTracker] = defaultdict(ByteTracker)
    ages_ms: list[float] = []
    usage = resource.getrusage(resource.RUSAGE_SELF)
    before_s = usage.ru_utime + usage.ru_stime
    with closing(LiveSource(openers, ending.is_set)) as source:
        timer = threading.Timer(seconds, ending.set)
        timer.start()
        for frame in source:
            result = detect(frame)
            ages_ms.append((time.monotonic() - frame.captured_s) * 1e3)
            tracker = trackers[frame.camera]
            tracker.update(result.detections, frame.captured_s, SCORE)
            number = (starts[frame.camera] + frame.index + 1) % len(frames)
            seen[frame.camera].add(number)
            for track in tracker.tracks:
                if track.seen:
                    live[frame.camera][track.id][number] = np.array(track.box_xyxy)
        timer.cancel()
        stats = source.stats()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    shares = [one.processed / max(one.captured, 1) for one in stats]
    return {
        "cameras": cameras,
        "served": float(np.mean(shares)),
        "fairness": max(shares) / max(min(shares), 1e-9),
        "age_p95_ms": float(np.percentile(ages_ms, 95)),
        "cpu_s_a_camera_s": (usage.ru_utime + usage.ru_stime - before_s) / seconds / cameras,
    }, {"live": live, "seen": seen, "starts": starts}


def recall_of(reference, run, frames: int, fps: float, seconds: float) -> tuple[int, int]:
    """Return how many reference tracks were recalled, and how many there were in the time of the run."""
    recalled = total = 0
    for camera, start in run["starts"].items():
        shown = {(start + 1 + i) % frames for i in range(int(seconds * fps))}
        for track in reference:
            if not set(track) <= shown:
                continue
            total += 1
            looked = set(track) & run["seen"][camera]
            best = max(
                (
                    sum(
                        iou_of(track[number][None], boxes[number][None])[0, 0] >= LEAST_IOU
                        for number in looked & set(boxes)
                    )
                    for boxes in run["live"][camera].values()
                ),
                default=0,
            )
            recalled += int(best >= max(2, len(looked) / 2))
    return recalled, total


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--fps", type=float, default=5.0)
    parser.add_argument("--busy", type=float, default=4.0, help="seconds of the clip in the scene")
    parser.add_argument("--quiet", type=float, default=16.0, help="seconds without anything")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    args = parser.parse_args()
    cv2.setNumThreads(1)
    frames = scene_of(args.clip, args.fps, args.busy, args.quiet)
    model = int8_model()
    if model is None:
        raise SystemExit("this study runs the bundled INT8 model: pip install 'edgedet[tflite]'")
    detector = Detector(model, threads=2, score=SCORE * LOW_SHARE)
    reference = reference_tracks(frames, args.fps, detector)
    print(f"{len(frames)} frames, {len(reference)} reference tracks, {args.fps:g} fps, load {os.getloadavg()[0]:.1f}")
    print("cameras  gate     served  recall   age p95 ms  max/min  CPU s a camera and second")
    rows = []
    for cameras in args.cameras:
        for gated in (False, True):
            detect = detector.detect
            if gated:
                rules = MotionRules()
                detect = GatedDetector(make_look(detect), rules, max(detector.meta.spec.input_hw)).detect
            figures, run = run_cameras(frames, args.fps, cameras, detect, args.seconds)
            recalled, total = recall_of(reference, run, len(frames), args.fps, args.seconds)
            row = {**figures, "gate": gated, "recalled": recalled, "tracks": total}
            rows.append(row)
            print(
                f"{cameras:>7}  {'motion' if gated else 'none':<7}  {row['served']:>5.0%}  {recalled:>3}/{total:<4} "
                f"{row['age_p95_ms']:>10.0f}  {row['fairness']:>7.2f}  {row['cpu_s_a_camera_s']:>7.3f}",
                flush=True,
            )
    # A scene in which nothing happens, behind the gate.
    still = frames[round(args.busy * args.fps) :]
    gate = GatedDetector(make_look(detector.detect), MotionRules(), max(detector.meta.spec.input_hw))
    figures, _ = run_cameras(still, args.fps, 4, gate.detect, args.seconds)
    print(f"empty scene, 4 cameras: {figures['cpu_s_a_camera_s']:.3f} CPU s a camera and second")
    print(json.dumps({"rows": rows, "empty": figures, "fps": args.fps, "threads": 2}))


if __name__ == "__main__":
    main()
