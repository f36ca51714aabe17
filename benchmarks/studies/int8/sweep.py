"""Measure the accuracy and time of each way to quantise.

    python -m edgedet.benchmarks.studies.int8.sweep FLOAT.onnx --calib SRC --data X ...

For each number of calibration frames and each seed it measures min-max ranges alone, and what ``edgedet export --int8``
does. AP of full-INT8 files is the mean over changes of one grey level (``ap_spread``), F1 is measured on the gate's
frames. Each cell is written to the JSON file as soon as it is measured, and a second start continues where the first
ended. Cells of an earlier REVISION are measured again; ``--only`` selects some cells.
``python -m edgedet.benchmarks.studies.int8.sweep --docs FILE.json ...`` prints the tables of docs/int8.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgedet.artifact import ArtifactMeta
from edgedet.benchmarks.studies.int8.ap_spread import match_under_changes
from edgedet.benchmarks.studies.one_line import ends_in_one_line
from edgedet.calibration.placement.table import CalibrationTable
from edgedet.calibration.quantise import Quantised, quantise
from edgedet.calibration.ranges.frames import FrameSets, take_calibration_frames
from edgedet.engines.base import open_engine
from edgedet.errors import InputError
from edgedet.export.int8.export_int8 import read_float_model
from edgedet.export.int8.files import SPARSE, TFLITE
from edgedet.export.onnx_file import write_onnx
from edgedet.files import sha256_of, write_json
from edgedet.judge.agreement import compare_detections
from edgedet.judge.gate.pseudo_labels import detections_on
from edgedet.judge.labels import Dataset, read_dataset
from edgedet.types import Detections

REVISION = 2  # of the observer "mixed": 2 evaluates the backbone's worst ranges at the network's outputs
COUNTS, SEEDS, CHANGES, SCORE = (8, 32, 128), (0, 1, 2), 4, 0.4
STATIC = {"convolutions": ["Conv"], "all operators": None}  # of onnxruntime's quantize_static
WAYS = {
    "extremes": ("none", "minmax"),
    "fast": ("fast", "mixed"),
    "full": ("full", "mixed"),
}  # name -> (recovery, observer)


class Sweep:
    """One float file, its frames and labels, and the measurement of each cell."""

    def __init__(self, path: Path, calib: str, data: Dataset, threads: int) -> None:
        self.path, self.calib, self.data, self.threads = path, calib, data, threads
        self.model, self.meta = read_float_model(path)
        self._tables: dict[tuple[str, ...], tuple[CalibrationTable, float]] = {}
        matches = match_under_changes(path, data, 1, threads)
        self.float_ap = self._mean_ap(matches)

    def _mean_ap(self, matches: Sequence[Any]) -> float:
        values = [item.compute_ap(np.ones(len(self.data.images))) for item in matches]
        return float(np.mean([value for value in values if value is not None]))

    def cells(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        """Return each cell's name and how it is measured."""
        for count in COUNTS:
            for seed in SEEDS:
                for way in WAYS:
                    yield f"{way}, {count} frames, seed {seed}", partial(self.dense, way, count, seed)
        for way in WAYS:
            yield f"{way}, sparse", partial(self.sparse, way)
        for name in STATIC:
            yield f"quantize_static, {name}", partial(self.static, name)

    def _frames(self, count: int, seed: int) -> FrameSets:
        return take_calibration_frames(self.calib, self.meta.spec, count, seed)

    def _quantise(self, way: str, frames: FrameSets) -> tuple[Quantised, float]:
        """Return the model and its seconds. Ways with one observer share their ranges; each counts their time."""
        recovery, observer = WAYS[way]
        pixels = [frame.pixels for frame in frames.calibrate]
        key = observer, *(sha256(frame.tobytes()).hexdigest() for frame in pixels)
        table, table_s = self._tables.get(key, (None, 0.0))
        steps_s = [time.perf_counter()]
        result = quantise(
            self.model,
            self.meta.spec,
            pixels,
            self.meta.source_sha256,
            recovery,
            table,
            observer=observer,
            say=lambda step: steps_s.append(time.perf_counter()),
        )
        seconds = table_s + time.perf_counter() - steps_s[0]
        if table is None and recovery != "none":  # the last step is the recovery, the others made the ranges
            self._tables[key] = result.table, steps_s[-1] - steps_s[0]
        return result, seconds

    def _measure(
        self, write: Callable[[ArtifactMeta, Path], Any], suffix: str, changes: int, frames: FrameSets, seconds: float
    ) -> dict[str, Any]:
        gate = self._frames(max(COUNTS), SEEDS[0]).gate
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"int8{suffix}"
            write(replace(self.meta, precision="int8", report={}), path)
            ap = self._mean_ap(match_under_changes(path, self.data, changes, self.threads))
            detections: list[list[Detections]] = []
            for file in (self.path, path):
                meta, engine = open_engine(file, self.threads)
                with closing(engine):
                    detections.append(detections_on(engine.infer, meta, gate, SCORE))
        agreement = compare_detections(detections[1], detections[0])
        row = {"ap": ap, "f1": agreement.f1, "gate_boxes": agreement.boxes, "changes": changes, "revision": REVISION}
        return {**row, "seconds": seconds, "calibrated_on": len(frames.calibrate)}

    def dense(self, way: str, count: int, seed: int) -> dict[str, Any]:
        """Measure the TFLite file."""
        frames = self._frames(count, seed)
        made, seconds = self._quantise(way, frames)
        row = self._measure(lambda meta, path: TFLITE.write(made, meta, path), ".tflite", CHANGES, frames, seconds)
        return {**row, "mac_share": made.mac_shares["dense"]}

    def sparse(self, way: str) -> dict[str, Any]:
        """Measure TensorRT's file, on onnxruntime with its optimisations off; it is slow, so one AP only."""
        frames = self._frames(max(COUNTS), SEEDS[0])
        made, seconds = self._quantise(way, frames)
        row = self._measure(lambda meta, path: SPARSE.write(made, meta, path), ".onnx", 1, frames, seconds)
        return {**row, "mac_share": made.mac_shares["sparse"]}

    def static(self, name: str) -> dict[str, Any]:
        """Measure onnxruntime's own quantiser: min-max, per channel."""
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        frames = self._frames(32, SEEDS[0])

        class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
            def __init__(self) -> None:
                self._left = iter(frames.calibrate)

            def get_next(self) -> dict[str, np.ndarray] | None:
                frame = next(self._left, None)
                return None if frame is None else {"pixels": frame.pixels}

        began_s = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            path, every = Path(folder) / "static.onnx", Path(folder) / "float.onnx"
            write_onnx(self.model, self.meta.with_top_anchors(0), every)  # the choice of anchors is not to be rounded
            quantize_static(
                str(every),
                str(path),
                Reader(),
                QuantFormat.QDQ,
                STATIC[name],
                True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
            )
            made = onnx.load(path)
        seconds = time.perf_counter() - began_s
        return self._measure(lambda meta, path: write_onnx(made, meta, path), ".onnx", 1, frames, seconds)


def tables(path: Path) -> str:
    """Return the Markdown table of a measured file."""
    held = json.loads(path.read_text(encoding="utf-8"))
    base, cells = held["float_ap"], held["cells"]
    old = {name for name, cell in cells.items() if _is_old(name, cell)}
    lines = [
        f"{held['name']}: {held['images']} images, float AP {base:.4f}; F1 at {SCORE:g} on the gate's frames.",
        "",
        "| what | AP, kept | F1 | MACs in INT8 | s to quantise |",
        "|---|---|---|---|---|",
    ]

    def line(label: str, names: list[str]) -> str:
        rows = [cells[name] for name in names]
        kept = np.array([100.0 * row["ap"] / base for row in rows])
        f1 = [row["f1"] for row in rows if row["f1"] is not None]
        spread = f" ({kept.min():.1f} to {kept.max():.1f})" if len(rows) > 1 else ""
        share = rows[0].get("mac_share")
        mark = " *" if old & set(names) else ""
        return (
            f"| {label}{mark} | {kept.mean():.1f} %{spread} | {np.mean(f1):.3f} | "
            f"{'' if share is None else f'{100 * share:.1f} %'} | {np.median([row['seconds'] for row in rows]):.0f} |"
        )

    for name in STATIC:
        if (key := f"quantize_static, {name}") in cells:
            lines.append(line(f"{key}, {cells[key]['calibrated_on']} frames", [key]))
    for way in WAYS:
        for count in COUNTS:
            keys = [key for seed in SEEDS if (key := f"{way}, {count} frames, seed {seed}") in cells]
            if keys:
                ranged = cells[keys[0]]["calibrated_on"]
                lines.append(line(f"TFLite, {way}, {count} frames ({ranged} for ranges), {len(keys)} seeds", keys))
    for way in WAYS:
        if (key := f"{way}, sparse") in cells:
            lines.append(line(f"TensorRT's, {way}, {max(COUNTS)} frames", [key]))
    if old:
        lines += ["", f"\\* measured with calibration revision {min(map(_revision, cells.values()))}, now {REVISION}."]
    return "\n".join(lines) + "\n"


def _revision(cell: dict[str, Any]) -> int:
    return int(cell.get("revision", 1))


def _is_old(name: str, cell: dict[str, Any]) -> bool:
    """Return whether calibration has changed since; "extremes" and quantize_static have no part of what did."""
    _, observer = WAYS.get(name.partition(",")[0], ("", ""))
    return observer == "mixed" and _revision(cell) < REVISION


@ends_in_one_line
def main(argv: Sequence[str] | None = None) -> int:
    """Measure the cells that the JSON file does not have, or print the tables of finished files."""
    parser = argparse.ArgumentParser(prog="python -m edgedet.benchmarks.studies.int8.sweep", description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", metavar="FLOAT", help="float .onnx file of edgedet export")
    parser.add_argument("--calib", metavar="SRC", help="frames of the scene")
    parser.add_argument("--data", type=Path, metavar="X", help="COCO JSON or Pascal VOC folder")
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the images of --data are")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the cells are kept")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: %(default)s)")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="NAME", help="cells whose names begin so, in this order"
    )
    parser.add_argument("--docs", type=Path, nargs="+", metavar="FILE", help="print the tables of these files")
    args = parser.parse_args(argv)
    if args.docs:
        print("\n".join(tables(path) for path in args.docs), end="")
        return 0
    if None in (args.model, args.calib, args.data, args.json):
        raise InputError("a sweep needs FLOAT, --calib, --data and --json; --docs prints finished ones.")
    import torch

    torch.set_num_threads(args.threads)
    data = read_dataset(args.data, args.images)
    sweep = Sweep(args.model, args.calib, data, args.threads)
    held: dict[str, Any] = {
        "name": sweep.meta.spec.name,
        "source_sha256": sweep.meta.source_sha256,
        "images": len(data.images),
        "float_ap": sweep.float_ap,
        "cells": {},
    }
    if args.json.exists():
        earlier = json.loads(args.json.read_text(encoding="utf-8"))
        if earlier.get("source_sha256") != held["source_sha256"]:
            raise InputError(f"{args.json} holds another checkpoint's cells ({sha256_of(args.json)[:8]}): move it.")
        held["cells"] = earlier["cells"]
    cells = list(sweep.cells())
    selected = [(name, measure) for begin in args.only for name, measure in cells if name.startswith(begin)]
    for name, measure in selected:
        if name not in held["cells"] or _is_old(name, held["cells"][name]):
            held["cells"][name] = measure()
            write_json(str(args.json), held)
            print(name, held["cells"][name], file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
