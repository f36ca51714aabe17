"""Measure how much faster several local workers are than one, and than this process alone without Ray.

    nice -n -15 python -m edgedet.benchmarks.studies.worker_efficiency

Pictures are frames of the demo's clip, as JPEG files. The numbers of workers take turns in every round, each in a
session of its own, because other programs change the speed; medians count, and the efficiency is the median of the
rounds' own ratios. A session's start, and the first shard of each worker, which imports edgedet and opens the model,
are told apart from the pictures behind them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median

import numpy as np

from edgedet import demo
from edgedet.benchmarks.cluster.detect import Model, detect_shard, load_bytes
from edgedet.benchmarks.cluster.shards import SHARD, ClusterOptions, ray_session, run_in_shards
from edgedet.benchmarks.cluster.shared_file import SharedFile
from edgedet.benchmarks.latency.device import describe_device
from edgedet.detector import Detector
from edgedet.errors import require
from edgedet.files import sha256_of
from edgedet.judge.average_precision import SCORE_FLOOR, detect_images
from edgedet.judge.labels import LabelledImage

ALONE = 0  # stands for this process, without Ray
ARMS = (ALONE, 1, 2)


def write_pictures(folder: Path, count: int) -> list[LabelledImage]:
    """Write frames of the demo's clip; return them without labels."""
    cv2 = require("cv2", "the study")
    clip = demo.clip_frames(count)
    nothing = np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool)
    images = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        cv2.imwrite(str(path), clip[number % len(clip)])
        images.append(LabelledImage(path, None, *nothing))
    return images


def time_alone(path: Path, images: list[LabelledImage]) -> tuple[float, float]:
    """Return the seconds until the model is open, and those of all pictures in this process."""
    start_s = time.perf_counter()
    detector = Detector(path, 1, SCORE_FLOOR)
    detector(np.zeros((64, 64, 3), np.uint8))
    opened_s = time.perf_counter()
    detect_images(detector, images)
    end_s = time.perf_counter()
    detector.close()
    return opened_s - start_s, end_s - opened_s


def time_workers(path: Path, images: list[LabelledImage], workers: int, shard_size: int) -> tuple[float, float]:
    """Return the seconds until every worker has done a picture, and those of all pictures after that."""
    options = ClusterOptions(workers)
    shared = Model(SharedFile.of(path.name, path.read_bytes()), 1, False, None)
    start_s = time.perf_counter()
    with ray_session(options) as ray:
        # Longer than it takes to start one: each worker gets some of these
        run_in_shards(ray, detect_shard, shared, images[: 4 * workers], options, load_bytes, 1)
        ready_s = time.perf_counter()
        run_in_shards(ray, detect_shard, shared, images, options, load_bytes, shard_size)
        return ready_s - start_s, time.perf_counter() - ready_s


def main(argv: list[str] | None = None) -> int:
    """Print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description="What several local workers gain.")
    parser.add_argument("model", nargs="?", type=Path, default=demo.INT8, help="model file (default: the demo's INT8)")
    parser.add_argument("--pictures", type=int, default=64, help="(default: %(default)s)")
    parser.add_argument("--shard", type=int, default=SHARD, help="pictures a shard (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    if min(args.pictures, args.shard, args.rounds) < 1:
        parser.error("--pictures, --shard and --rounds want numbers from 1 up")
    require("cv2", "the study").setNumThreads(1)
    rounds: list[dict[int, tuple[float, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        images = write_pictures(Path(folder), args.pictures)
        for number in range(args.rounds):
            order = ARMS[number % len(ARMS) :] + ARMS[: number % len(ARMS)]  # each begins a round
            rounds.append(
                {
                    arm: time_workers(args.model, images, arm, args.shard) if arm else time_alone(args.model, images)
                    for arm in order
                }
            )
    print(f"{args.model.name}, {args.pictures} pictures in shards of {args.shard}, {args.rounds} rounds, medians")
    print("workers  start s  pictures s  efficiency")
    for arm in ARMS:
        start_s, pictures_s = (median(times[arm][part] for times in rounds) for part in (0, 1))
        efficiency = median(times[1][1] / times[arm][1] / max(arm, 1) for times in rounds)
        print(f"{arm or 'no Ray':>7}  {start_s:>7.1f}  {pictures_s:>10.1f}  {efficiency:>10.2f}")
    figures = {"seconds": [{str(arm): times[arm] for arm in ARMS} for times in rounds], "shard": args.shard}
    print(json.dumps({**asdict(describe_device()), "sha256": sha256_of(args.model), **figures}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
