"""Measure the latency of post-processing alone, on simulated outputs that resemble a trained network's.

    python -m edgedet.benchmarks.studies.postprocess_speed

The simulated outputs are a background of low logits (around -5.5, as COCO models give), and objects on which many
neighbouring anchors have high scores. The latency depends only on counts: how many logits are compared, how many pass,
how many boxes NMS keeps. numpy runs this on one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np

from edgedet.anchors import anchors_for
from edgedet.benchmarks.latency.device import describe_device
from edgedet.benchmarks.latency.measure import compute_percentiles
from edgedet.engines.base import raw_from_arrays
from edgedet.export.fusion.top_anchors import MOST_TOP_ANCHORS
from edgedet.postprocess import logit_of, postprocess
from edgedet.specs import SPECS
from edgedet.types import RawOutputs

SCORE = 0.3
SHARE = 0.01  # share of the anchors that are candidates
NEIGHBOURS = 30  # candidates for each object
WARMUP = 5
MODELS = ("tf_efficientdet_d0", "tf_efficientdet_d7")
TARGET_P50_MS = {"tf_efficientdet_d0": 4.0, "tf_efficientdet_d7": 40.0}  # one core of a desktop
_BACKGROUND, _SPREAD = -5.5, 0.8  # mean and standard deviation of the background's logits, none of which passes


@dataclass(frozen=True)
class Speed:
    """The counts of one model and its percentiles of latency in milliseconds; rows: anchors that the graph keeps."""

    model: str
    anchors: int
    rows: int
    output_bytes: int
    classes: int
    candidates: int
    boxes: int
    n: int
    ms: dict[str, float]


def simulate_outputs(anchors_yxyx: np.ndarray, num_classes: int, share: float, seed: int = 0) -> RawOutputs:
    """Return outputs in which ``share`` of the anchors (A, 4) are candidates for ``SCORE``, in clusters.

    Each object is placed on an anchor; its candidates are the NEIGHBOURS nearest anchors. Their decoded boxes differ
    from the object's box by about a tenth of its sides.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(_BACKGROUND, _SPREAD, (len(anchors_yxyx), num_classes)).astype(np.float32)
    np.minimum(logits, logit_of(SCORE) - 0.01, out=logits)
    codes = rng.normal(0.0, 0.25, (len(anchors_yxyx), 4)).astype(np.float32)
    lows_yx, highs_yx = anchors_yxyx[:, :2], anchors_yxyx[:, 2:]
    sides_yx, centres_yx = highs_yx - lows_yx, (lows_yx + highs_yx) / 2
    for _ in range(round(len(anchors_yxyx) * share / NEIGHBOURS)):
        anchor, class_id = int(rng.integers(len(anchors_yxyx))), int(rng.integers(num_classes))
        distance = np.abs(centres_yx - centres_yx[anchor]).max(axis=1) / sides_yx[anchor].max()
        distance += np.abs(np.log(sides_yx / sides_yx[anchor])).max(axis=1)
        near = np.argpartition(distance, NEIGHBOURS)[:NEIGHBOURS]
        jitter = rng.normal(0.0, 0.1, (NEIGHBOURS, 4))
        codes[near, :2] = (centres_yx[anchor] - centres_yx[near]) / sides_yx[near] + jitter[:, :2]
        codes[near, 2:] = np.log(sides_yx[anchor] / sides_yx[near]) + jitter[:, 2:]
        logits[near, class_id] = logit_of(SCORE) + 0.01 + np.abs(rng.normal(0.0, 1.0, NEIGHBOURS))
    return RawOutputs(logits, codes)


def keep_best(raw: RawOutputs, count: int) -> list[np.ndarray]:
    """Return the outputs of a graph that keeps ``count`` anchors: logits, codes and anchors' numbers, best first."""
    anchor_ids = np.argsort(-raw.class_logits.max(1), kind="stable")[:count].astype(np.int32)
    return [raw.class_logits[anchor_ids], raw.box_codes[anchor_ids], anchor_ids]


def measure(model: str, runs: int, share: float = SHARE, top_anchors: int = 0) -> Speed:
    """Time ``postprocess`` for the model's own input size, its 90 classes and a source of the same size.

    top_anchors: anchors that the graph keeps, 0: all of them.
    """
    spec = SPECS[model]
    anchors_yxyx = anchors_for(spec)
    raw = simulate_outputs(anchors_yxyx, spec.num_classes, share)
    outputs = keep_best(raw, top_anchors) if top_anchors else [raw.class_logits, raw.box_codes]
    times_ms = []
    for index in range(WARMUP + runs):
        started = time.perf_counter()
        raw = raw_from_arrays(outputs)
        detections = postprocess(raw, anchors_yxyx, 1.0, spec.input_hw, score=SCORE)
        if index >= WARMUP:
            times_ms.append((time.perf_counter() - started) * 1e3)
    candidates = int((raw.class_logits > logit_of(SCORE)).sum())
    return Speed(
        model,
        len(anchors_yxyx),
        len(outputs[0]),
        sum(array.nbytes for array in outputs),
        spec.num_classes,
        candidates,
        len(detections),
        len(times_ms),
        compute_percentiles(times_ms),
    )


def main(argv: list[str] | None = None) -> int:
    """Print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description="Time post-processing alone, on simulated outputs.")
    parser.add_argument("--runs", type=int, default=100, help="runs that count (default: %(default)s)")
    parser.add_argument("--share", type=float, default=SHARE, help="of anchors with a candidate (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.runs < 1 or not 0 <= args.share <= 1:
        parser.error("--runs wants a number from 1 up, --share one from 0 to 1")
    speeds = [measure(model, args.runs, args.share, top) for model in MODELS for top in (0, MOST_TOP_ANCHORS)]
    print(f"score {SCORE}, {args.share:.1%} of the anchors are candidates, one thread, {WARMUP} runs of warm-up")
    print(
        "model                 anchors     rows  MB out  classes  candidates  boxes    n  p50 ms  p90 ms  p99 ms  "
        "target p50"
    )
    for speed in speeds:
        ms = "  ".join(f"{value:>6.2f}" for value in speed.ms.values())
        print(
            f"{speed.model:<20}  {speed.anchors:>7}  {speed.rows:>7}  "
            f"{speed.output_bytes / 1e6:>6.2f}  {speed.classes:>7}  {speed.candidates:>10}  {speed.boxes:>5}  "
            f"{speed.n:>3}  {ms}  {TARGET_P50_MS[speed.model]:>10.1f}"
        )
    figures = {
        **asdict(describe_device()),
        "score": SCORE,
        "share": args.share,
        "warmup": WARMUP,
        "models": [{**vars(speed), "target_p50_ms": TARGET_P50_MS[speed.model]} for speed in speeds],
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
