"""Simulate how long many workers take for many pictures by shard size, with slow machines and machines that fail.

    python -m edgedet.benchmarks.studies.shard_sizes

No figure of this is measured: times of a picture, slow machines and failures are drawn at random from the distributions
below. The schedule is that of ``benchmarks/cluster/shards.py``: a free worker takes the next shard, and a shard whose
worker fails is run again from its beginning.
"""

from __future__ import annotations

import argparse
import heapq
import json

import numpy as np

PICTURE_S = 0.1  # D0 on one core
SPREAD = 0.1  # of one picture's time to the next, relative
SLOW_SHARE, SLOW_FACTOR = 0.05, 3.0  # so many workers are so much slower
START_S = 0.005  # of a shard: Ray's task, and the answer
FAILURES_PER_HOUR = 0.1  # of a worker
SIZES = (1, 4, 16, 64, 256, 1024)
CLUSTERS = ((2, 5_000), (64, 5_000), (64, 100_000), (1_000, 1_000_000))


def simulate(workers: int, pictures: int, shard: int, rng: np.random.Generator) -> float:
    """Return the time to the last result, in seconds."""
    factors = np.where(rng.random(workers) < SLOW_SHARE, SLOW_FACTOR, 1.0)
    sizes = [shard] * (pictures // shard) + ([pictures % shard] if pictures % shard else [])
    free = [(0.0, worker) for worker in range(workers)]
    heapq.heapify(free)
    end_s = 0.0
    while sizes:
        size = sizes.pop()
        now_s, worker = heapq.heappop(free)
        work_s = size * PICTURE_S * factors[worker] * (1 + SPREAD * rng.standard_normal() / np.sqrt(size))
        took_s = START_S + work_s
        if rng.random() < 1 - np.exp(-took_s * FAILURES_PER_HOUR / 3600):
            now_s += rng.random() * took_s  # lost; another worker begins again
            sizes.append(size)
        else:
            now_s += took_s
            end_s = max(end_s, now_s)
        heapq.heappush(free, (now_s, worker))
    return end_s


def main(argv: list[str] | None = None) -> int:
    """Print the time over the ideal one for each cluster and shard size, then all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (default: %(default)s)")
    args = parser.parse_args(argv)
    print(f"{'workers':>8}{'pictures':>11}  " + "".join(f"{f'shard {size}':>12}" for size in SIZES))
    rows = []
    for workers, pictures in CLUSTERS:
        mean_speed = 1 - SLOW_SHARE + SLOW_SHARE / SLOW_FACTOR
        ideal_s = pictures * PICTURE_S / (workers * mean_speed)
        ratios = []
        for size in SIZES:
            ends = [simulate(workers, pictures, size, np.random.default_rng(seed)) for seed in range(args.seeds)]
            ratios.append(float(np.mean(ends)) / ideal_s)
        rows.append({"workers": workers, "pictures": pictures, "ideal_s": ideal_s, "ratios": ratios})
        print(f"{workers:>8}{pictures:>11}  " + "".join(f"{ratio:>12.3f}" for ratio in ratios))
    print(json.dumps({"sizes": SIZES, "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
