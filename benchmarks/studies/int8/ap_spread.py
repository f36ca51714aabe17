"""Measure how much AP varies by chance.

    python -m edgedet.benchmarks.studies.int8.ap_spread FLOAT MODEL ... --data X

A full-INT8 network rounds so often that a change of one grey level in one pixel of a thousand moves its AP by a point
on a small test set, while the float network's AP stays the same. A single AP is then not reliable. This study takes the
mean over many such changes, and the bootstrap over images of the share of the float model's AP that is kept. MODEL may
be a file of another tool: "litert|FILE", "openvino|FILE" or "onnxruntime|FILE" (benchmarks/studies/peers).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgedet.benchmarks.studies.one_line import ends_in_one_line
from edgedet.detector import Detector
from edgedet.engines.base import open_engine
from edgedet.errors import InputError
from edgedet.files import write_json
from edgedet.judge.average_precision import SCORE_FLOOR, detect_images
from edgedet.judge.gate.perturbation import PerturbedEngine
from edgedet.judge.gate.verdict_on_labels import low_percentile, mean_ap
from edgedet.judge.labels import Dataset, match_classes, read_dataset
from edgedet.judge.matching import MatchedDetections, match_dataset
from edgedet.progress import with_progress

RESAMPLES = 300


@dataclass(frozen=True)
class Spread:
    """The AP of one file over ``repeats`` changes of a grey level.

    deviation: standard deviation of the APs.
    kept:      the mean AP as a share of the float file's.
    low:       the 5th percentile of ``kept`` over resampled images.
    """

    model: str
    mean_ap: float
    deviation: float
    kept: float
    low: float
    aps: tuple[float, ...]


def match_under_changes(
    path: Path, data: Dataset, repeats: int, threads: int, peer: str = ""
) -> list[MatchedDetections]:
    """Return a file's matched detections for each of ``repeats`` seeds; raises InputError where an image fails.

    peer: another tool's file of the same network (``peer_engine``), which runs in place of ``path``.
    """
    meta, engine = open_engine(path, threads)
    if peer:
        from edgedet.benchmarks.studies.peers.engines import peer_engine

        engine.close()
        engine = peer_engine(peer, meta, threads)
    class_map = match_classes(data, meta.class_names)
    runs = []
    with closing(engine):
        for seed in with_progress(range(repeats), Path(peer).name or path.name, "change"):
            detector = Detector((meta, PerturbedEngine(engine, seed)), threads, SCORE_FLOOR)
            labelled, failures = detect_images(detector, data.images)
            failures = [*data.failures, *failures]
            if failures:
                raise InputError(f"{len(failures)} labelled images cannot be judged: {failures[0]}.")
            runs.append(match_dataset(data.images, [detections for _, detections in labelled], class_map))
    return runs


def compute_spread(
    name: str, float_runs: Sequence[MatchedDetections], runs: Sequence[MatchedDetections], images: int
) -> Spread:
    """Compare a file's APs with the float file's, image for image; raises InputError where there is no AP."""

    all_images = np.ones(images)
    values = [value for item in runs if (value := item.compute_ap(all_images)) is not None]
    if not values or not mean_ap(float_runs, all_images):
        raise InputError("the float file's AP is 0, or no image has labels: nothing to compare with.")

    def kept(weights: np.ndarray) -> float | None:
        before, after = mean_ap(float_runs, weights), mean_ap(runs, weights)
        return after / before if before and after is not None else None

    low, share = low_percentile(kept, images, seed=0, resamples=RESAMPLES), kept(all_images)
    assert low is not None
    assert share is not None
    return Spread(name, float(np.mean(values)), float(np.std(values)), share, low, tuple(values))


@ends_in_one_line
def main(argv: Sequence[str] | None = None) -> int:
    """Print a row for each file."""
    parser = argparse.ArgumentParser(prog="python -m edgedet.benchmarks.studies.int8.ap_spread", description=__doc__)
    parser.add_argument("float_model", type=Path, metavar="FLOAT")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", type=Path, required=True, metavar="X", help="COCO JSON or Pascal VOC folder")
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the images of --data are")
    parser.add_argument("--repeats", type=int, default=20, metavar="N", help="changes (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each engine (default: %(default)s)")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the figures as JSON")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        raise InputError(f"--repeats takes a number from 1 on; got {args.repeats}.")
    data = read_dataset(args.data, args.images)
    float_runs = match_under_changes(args.float_model, data, min(args.repeats, 2), args.threads)
    text = sys.stderr if args.json == "-" else sys.stdout
    print(f"{'file':<44} {'mean AP':>8} {'+-':>7} {'kept':>7} {'low':>7}", file=text)
    rows = []
    for model in args.models:
        path, peer = (args.float_model, model) if "|" in model else (Path(model), "")
        runs = match_under_changes(path, data, args.repeats, args.threads, peer)
        row = compute_spread(Path(model).name, float_runs, runs, len(data.images))
        rows.append(row)
        print(
            f"{row.model:<44} {row.mean_ap:8.4f} {row.deviation:7.4f} {row.kept:7.4f} {row.low:7.4f}",
            file=text,
            flush=True,
        )
    write_json(args.json, {"files": [asdict(row) for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
