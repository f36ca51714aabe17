"""How much of the cores `edgedet run` uses on a video file: reading, detecting and writing beside each other.

    python -m edgedet.benchmarks.studies.overlap

The ceiling is cores divided by the CPU seconds that all stages need for a frame, measured one after another on one
thread. Both are taken in turns, since clocks and neighbours change; the best round counts, because a neighbour can only
take away. The clip is the demo's, at 1280x720; nothing is saved.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from edgedet import demo
from edgedet.benchmarks.latency.device import device_figures, engine_version
from edgedet.commands.run import FILE_DETECTORS
from edgedet.detector import Detector
from edgedet.engines.base import default_threads
from edgedet.errors import require
from edgedet.files import sha256_of
from edgedet.stream.loop import run_frames
from edgedet.stream.sources import open_source
from edgedet.types import FrameResult

SIZE_WH, FPS = (1280, 720), 25.0
WARMUP = 10  # frames of each run that do not count
FRAMES, ROUNDS = 150, 3
TARGET_SHARE, TARGET_SPREAD = 0.95, 1.5


@dataclass(frozen=True)
class Round:
    """One round: CPU milliseconds a frame, the rate that they allow and the one that came, latencies of detection."""

    cpu_ms: float
    allowed_fps: float
    fps: float
    share: float
    p50_ms: float
    p99_ms: float
    spread: float


def write_clip(path: Path) -> None:
    """Write the demo's clip at SIZE_WH."""
    cv2 = require("cv2", "the benchmark")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, SIZE_WH)
    with closing(open_source(str(demo.CLIP), lambda: False)) as source:
        for frame in source:
            writer.write(cv2.resize(frame.bgr, SIZE_WH))
    writer.release()


def cpu_seconds(clip: Path, model: Path, frames: int) -> float:
    """Return the CPU seconds of one frame, all stages one after another on one thread."""
    with Detector(model, threads=1) as detector, closing(open_source(str(clip), lambda: False)) as source:
        pictures = iter(source)
        for frame in islice(pictures, WARMUP):
            detector.detect(frame)
        began = time.process_time()
        done = len([detector.detect(frame).age_ms for frame in islice(pictures, frames)])
        return (time.process_time() - began) / done


def measure(clip: Path, model: Path, frames: int, cores: int) -> Round:
    """Run the clip as ``edgedet run`` does on ``cores`` threads, and compare with what its stages need."""
    cpu_s = cpu_seconds(clip, model, frames)
    ends_s: list[float] = []
    latencies_ms: list[float] = []

    def note(result: FrameResult) -> None:
        ends_s.append(time.perf_counter())
        latencies_ms.append(sum(result.timings_ms.values()))

    copies = FILE_DETECTORS if cores >= FILE_DETECTORS else 1
    with ExitStack() as held:
        detectors = [held.enter_context(Detector(model, threads=cores // copies)) for _ in range(copies)]
        source = open_source(str(clip), lambda: False)
        run_frames(source, [detector.detect for detector in detectors], [note], lambda: False, WARMUP + frames)
    fps = (len(ends_s) - WARMUP) / (ends_s[-1] - ends_s[WARMUP - 1])
    p50_ms, p99_ms = np.percentile(latencies_ms[WARMUP:], (50, 99)).tolist()
    return Round(cpu_s * 1e3, cores / cpu_s, fps, fps * cpu_s / cores, p50_ms, p99_ms, p99_ms / p50_ms)


def main(argv: list[str] | None = None) -> int:
    """Print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description="How much of the cores edgedet run uses on a file.")
    parser.add_argument("model", nargs="?", type=Path, default=demo.INT8, help="model file (default: the demo's INT8)")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames that count, a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.frames < 1 or args.rounds < 1:
        parser.error("--frames and --rounds want numbers from 1 up")
    cores = default_threads()
    require("cv2", "the benchmark").setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip)
        rounds = [measure(clip, args.model, args.frames, cores) for _ in range(args.rounds)]
    best = max(rounds, key=lambda one: one.share)
    print(f"{args.model.name} on {SIZE_WH[0]}x{SIZE_WH[1]}, {cores} cores, {args.frames} frames a round")
    print("CPU ms a frame  allowed FPS    FPS  share  p50 ms  p99 ms  p99/p50")
    for one in rounds:
        print(
            f"{one.cpu_ms:>14.1f}  {one.allowed_fps:>11.1f}  {one.fps:>5.1f}  {one.share:>5.3f}  {one.p50_ms:>6.1f}  "
            f"{one.p99_ms:>6.1f}  {one.spread:>7.2f}{'  best' if one is best else ''}"
        )
    figures = {
        **device_figures(),
        "engine": engine_version(args.model),
        "sha256": sha256_of(args.model),
        "warmup": WARMUP,
        "n": args.frames,
        "rounds": [asdict(one) for one in rounds],
        "best": asdict(best),
        "target": {"share": TARGET_SHARE, "spread": TARGET_SPREAD},
        "load": os.getloadavg()[0],
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
