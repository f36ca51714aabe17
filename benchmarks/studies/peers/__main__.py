"""Compare edgedet with other tools on one checkpoint: latency, measured in turns, and AP.

    python -m edgedet.benchmarks.studies.peers --weights my.pth --ours my.onnx my_int8.tflite --calib photos/train \
        --data photos/test --litert peer.tflite peer_int8.tflite --json peers.json

Runs in an environment with the other tools (requirements.txt beside this file). effdet's plain ONNX file and NNCF's
INT8 file are made in --work and used again; litert-torch needs an environment of its own, so its files come from
scripts/convert_with_litert_torch.py. All rows run on the same frames with the same number of threads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from edgedet import demo
from edgedet.benchmarks.latency.conditions import record_conditions
from edgedet.benchmarks.latency.device import describe_device
from edgedet.benchmarks.latency.measure import Latency, count_rounds, measure
from edgedet.benchmarks.latency.sensors import read_settings, take_snapshot
from edgedet.benchmarks.latency.served import ServedDetector
from edgedet.benchmarks.studies.one_line import ends_in_one_line
from edgedet.benchmarks.studies.peers.engines import CALIBRATION_FRAMES, export_plain_onnx, open_peer, quantise_by_nncf
from edgedet.calibration.ranges.frames import take_calibration_frames
from edgedet.detector import Detector
from edgedet.engines.base import open_engine
from edgedet.errors import EdgeDetError, InputError
from edgedet.files import sha256_of, write_json
from edgedet.judge.average_precision import SCORE_FLOOR, compute_accuracy, detect_images
from edgedet.judge.labels import Dataset, match_classes, read_dataset
from edgedet.postprocess import DEFAULT_SCORE
from edgedet.progress import with_progress
from edgedet.types import Frame

FRAMES = 10
PLAIN = "effdet plain ONNX, onnxruntime"
_PACKAGES = ("onnxruntime", "openvino", "nncf", "torch", "effdet", "timm", "ai-edge-litert")


def peers(args: argparse.Namespace) -> dict[str, tuple[str, Any]]:
    """Return name -> (what ``ServedDetector`` opens, its opener); makes what is missing in ``--work``."""
    ours = str(args.ours[0])
    meta, engine = open_engine(ours, 1)
    engine.close()
    args.work.mkdir(parents=True, exist_ok=True)
    plain, int8 = args.work / f"{args.weights.stem}_plain.onnx", args.work / f"{args.weights.stem}_nncf.xml"
    if not plain.is_file():
        export_plain_onnx(args.weights, meta.spec, plain)
    if not int8.is_file():
        frames = take_calibration_frames(str(args.calib), meta.spec, CALIBRATION_FRAMES, 0, False)
        quantise_by_nncf(plain, [frame.pixels for frame in frames.calibrate], meta.spec, int8)
    edgedet_rows = {f"edgedet {path.name}": (str(path), Detector) for path in args.ours}
    rows = [
        ("effdet eager, PyTorch", "eager", args.weights),
        ("effdet torch.compile", "compile", args.weights),
        (PLAIN, "onnxruntime", plain),
        ("effdet plain ONNX, OpenVINO", "openvino", plain),
        ("NNCF INT8, OpenVINO", "openvino", int8),
        *((f"litert-torch {path.name}", "litert", path) for path in args.litert),
    ]
    return {**edgedet_rows, **{name: (f"{kind}|{path}|{ours}", open_peer) for name, kind, path in rows}}


def ap_of(model: str, opener: Any, dataset: Dataset, name: str) -> float | None:
    """Return AP by the same pre- and post-processing for all."""
    with closing(ServedDetector(model, 1, SCORE_FLOOR, opener)) as served:
        names = served.opened.meta.class_names
        detections, failures = detect_images(served.find, with_progress(dataset.images, name, "image"))
    if failures:
        raise InputError(f"{len(failures)} images cannot be read: {failures[0]}.")
    return compute_accuracy(detections, match_classes(dataset, names), names).figures["AP"]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures; a peer that fails is named and left out."""
    rows = peers(args)
    dataset = None if args.data is None else read_dataset(args.data)
    frames = [Frame(bgr, 0.0, index) for index, bgr in enumerate(demo.clip_frames(FRAMES))]
    failures: dict[str, str] = {}
    fixed, before = read_settings(), take_snapshot()
    with ExitStack() as held:
        served: dict[str, ServedDetector] = {}
        for name, (model, opener) in rows.items():
            try:
                served[name] = held.enter_context(closing(ServedDetector(model, args.threads, DEFAULT_SCORE, opener)))
            except EdgeDetError as error:
                failures[name] = str(error)
        counted = with_progress(list(count_rounds(args.rounds, 0.0)), "measuring", "round")
        functions = {name: detector.run for name, detector in served.items()}
        measured = measure(functions, frames, args.warmup, iter(counted))
        memory = {name: served[name].peak_rss_mb() for name in measured.latencies}
    record = record_conditions(before, take_snapshot(), fixed)
    base = measured.latencies.get(PLAIN)
    entries = []
    for name, latency in measured.latencies.items():
        model, opener = rows[name]
        ap = None if dataset is None else ap_of(model, opener, dataset, name)
        entries.append({**_entry(name, model, latency, base), "peak_rss_mb": memory[name], "ap": ap})
    failures.update(measured.failures)
    return {
        **asdict(describe_device()),
        "conditions": asdict(record),
        "threads": args.threads,
        "rounds": measured.rounds,
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "rows": entries,
        "failures": failures,
    }


def _entry(name: str, model: str, latency: Latency, base: Latency | None) -> dict[str, Any]:
    path = Path(model.split("|")[1] if "|" in model else model)
    ratios = {
        f"speed_{stage.replace(' ', '_')}": None
        if base is None
        else float(np.median(np.asarray(base.stages_ms[stage]) / np.asarray(latency.stages_ms[stage])))
        for stage in ("network", "end to end", "cpu")
    }
    return {
        "name": name,
        "sha256": sha256_of(path),
        "bytes": path.stat().st_size,
        "n": latency.runs,
        "fps": latency.fps,
        "ms": latency.percentiles_ms(),
        "cpu_ms": latency.cpu_ms,
        **ratios,
        "runs_ms": {stage: [round(v, 3) for v in latency.stages_ms[stage]] for stage in ("network", "end to end")},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(result: dict[str, Any]) -> str:
    """Return the rows as text, the fastest last; "x" are medians over the rounds of effdet's plain ONNX / this."""
    lines = [f"{'':<42}{'network':>9}{'x':>7}{'end to end':>12}{'x':>7}{'CPU ms':>8}{'x':>7}{'RSS MB':>8}{'AP':>8}"]
    for row in sorted(result["rows"], key=lambda row: -row["ms"]["end to end"]["p50"]):
        lines.append(
            f"{row['name'][-41:]:<42}{row['ms']['network']['p50']:>9.1f}{_cell(row['speed_network'], '.2f'):>7}"
            f"{row['ms']['end to end']['p50']:>12.1f}{_cell(row['speed_end_to_end'], '.2f'):>7}{row['cpu_ms']:>8.1f}"
            f"{_cell(row['speed_cpu'], '.2f'):>7}{_cell(row['peak_rss_mb'], '.0f'):>8}{_cell(row['ap'], '.4f'):>8}"
        )
    return "\n".join(lines + [f"failed: {name}: {why}" for name, why in result["failures"].items()])


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


@ends_in_one_line
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and with ``--json`` write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="effdet checkpoint")
    parser.add_argument("--ours", type=Path, nargs="+", required=True, help="files of edgedet export, float first")
    parser.add_argument("--litert", type=Path, nargs="*", default=[], help="files of convert_with_litert_torch.py")
    parser.add_argument("--calib", type=Path, required=True, help="pictures that NNCF calibrates on")
    parser.add_argument("--data", type=Path, help="labelled images for AP: COCO JSON or Pascal VOC folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40, help="runs of each (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=5, help="runs before those (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("peers-work"), help="where files are made")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON to FILE, or - for stdout")
    args = parser.parse_args(argv)
    result = run(args)
    write_json(args.json, result)
    print(table(result), file=sys.stderr if args.json == "-" else sys.stdout)
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
