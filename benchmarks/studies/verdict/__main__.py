"""Make INT8 files and keep what they detect.

python -m edgedet.benchmarks.studies.verdict --shared ../shared --cache DIR
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.benchmarks.studies.verdict.detections import detect, load, save, save_outlines
from edgedet.benchmarks.studies.verdict.known import with_known
from edgedet.benchmarks.studies.verdict.report import (
    OUTLINES,
    SUMMARY,
    add_verdicts,
    best_limit,
    details,
    folder_of,
    halves,
    is_certain,
    is_wholly,
    parting,
    picture,
    summary,
    table,
)
from edgedet.benchmarks.studies.verdict.scenes import ALL_CLASSES, SCENES, Scene, float_graph, pictures_of
from edgedet.benchmarks.studies.verdict.variants import Maker, Variant, variants_of
from edgedet.export.int8.files import SPARSE, TFLITE
from edgedet.export.onnx_file import write_onnx
from edgedet.files import write_json
from edgedet.judge.gate.perturbation import MOVES_XY, move_boxes_back, move_picture
from edgedet.judge.gate.pseudo_labels import outlines_of
from edgedet.judge.gate.verdict import MIN_KEPT
from edgedet.judge.matching import match_dataset
from edgedet.postprocess import DEFAULT_SCORE
from edgedet.types import Detections, ModelInput

LEDGER = "ledger.jsonl"
RUNS = {"dense": 3, "sparse": 1}  # over the labelled images, each changed a little
PASSES = (slice(0, 10), slice(10, 14), slice(14, None))


class Bench:
    """One scene with its float model's detections, measured once."""

    def __init__(self, scene: Scene, shared: Path, cache: Path) -> None:
        """cache: folder of all scenes."""
        self.scene, self.cache = scene, folder_of(cache, scene.name)
        self.cache.mkdir(parents=True, exist_ok=True)
        self.model, self.meta = float_graph(scene, shared)
        self.pictures = pictures_of(scene, self.meta, shared)
        other = next(item for item in SCENES if item.data != scene.data)
        names = other.classes or ALL_CLASSES[other.data]
        as_other = replace(self.meta, class_names=names, spec=replace(self.meta.spec, num_classes=len(names)))
        others = pictures_of(other, as_other, shared)
        path = self.cache / "float.onnx"
        write_onnx(self.model, self.meta, path)
        self.maker = Maker(path, self.model, self.meta, self.pictures.calibrate, others.calibrate)
        parts = {"test": self.pictures.test, "more": self.pictures.more, "judge": self.pictures.judge}
        for part, pictures in parts.items():
            if not pictures:
                continue
            self._keep(f"float {part}", partial(detect, path, pictures))
            for dx, dy in MOVES_XY:
                self._keep(f"float {part} moved {dx} {dy}", partial(_detect_moved, path, pictures, dx, dy))
        outlines = self.cache / OUTLINES
        if not outlines.exists():
            pairs = zip(self.pictures.judge, load(self._path("float judge")), strict=True)
            save_outlines(outlines, [outlines_of(picture, seen, DEFAULT_SCORE) for picture, seen in pairs])
        self.float_ap = self._ap(load(self._path("float test")))

    def _path(self, name: str) -> Path:
        return self.cache / f"{name.replace(' ', '_')}.npz"

    def _keep(self, name: str, measure: Callable[[], Sequence[Detections]]) -> None:
        path = self._path(name)
        if not path.exists():
            save(path, measure())

    def _ap(self, detections: Sequence[Detections]) -> float:
        matched = match_dataset(self.pictures.labelled.test, detections, self.pictures.labelled.class_map)
        return float(matched.compute_ap(np.ones(len(detections))) or 0.0)

    def measure(self, variant: Variant) -> dict[str, object]:
        """Make a variant's file, keep its detections and return its row."""
        began_s, cpu_s = time.perf_counter(), time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            form = TFLITE if variant.placement == "dense" else SPARSE
            path = Path(folder) / f"int8{form.suffix}"
            form.write(self.maker.make(variant), replace(self.meta, precision="int8", report={}), path)
            made_s = time.process_time() - cpu_s
            aps = []
            for seed in range(RUNS[variant.placement]):
                name = f"{variant.name} test {seed}"
                self._keep(name, partial(detect, path, self.pictures.test, seed))
                aps.append(self._ap(load(self._path(name))))
            if (
                variant.placement == "dense" and self.pictures.more
            ):  # onnxruntime without optimisations takes ten times as long
                self._keep(f"{variant.name} more 0", lambda: detect(path, self.pictures.more, 0))
            self._keep(f"{variant.name} judge", lambda: detect(path, self.pictures.judge))
        return {
            "scene": self.scene.name,
            "variant": variant.name,
            "placement": variant.placement,
            "float_ap": self.float_ap,
            "aps": aps,
            "kept": float(np.mean(aps)) / self.float_ap,
            "make_cpu_s": made_s,
            "cpu_s": time.process_time() - cpu_s,
            "s": time.perf_counter() - began_s,
        }


def _detect_moved(path: Path, pictures: Sequence[ModelInput], dx: int, dy: int) -> list[Detections]:
    seen = detect(path, [move_picture(picture, dx, dy) for picture in pictures])
    return [move_boxes_back(item, picture, dx, dy) for item, picture in zip(seen, pictures, strict=True)]


def make(shared: Path, cache: Path, scenes: Sequence[str]) -> None:
    """Make and run the files of these scenes that the ledger lacks."""
    import torch

    torch.set_num_threads(1)
    cache.mkdir(parents=True, exist_ok=True)
    done = {(row["scene"], row["variant"]) for row in rows_of(cache)}
    benches: dict[int, Bench] = {}
    for part in PASSES:
        for index, scene in enumerate(SCENES):
            for variant in list(variants_of(index))[part]:
                if scene.name not in scenes or (scene.name, variant.name) in done:
                    continue
                if index not in benches:
                    benches[index] = Bench(scene, shared, cache)
                row = benches[index].measure(variant)
                with open(cache / LEDGER, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), file=sys.stderr, flush=True)


def rows_of(cache: Path) -> list[dict[str, Any]]:
    """Return what the ledger holds."""
    path = cache / LEDGER
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def show(rows: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown of docs/int8.md."""
    chosen_on, _ = halves(rows)
    tflite = sum(row["placement"] == "dense" for row in rows)
    moved = {row["scene"]: f"{row['scene']} {100 * row['float_moved']:.1f} %" for row in rows}
    lines = [
        f"{len(rows)} files ({tflite} .tflite, {len(rows) - tflite} .onnx); on half of them ({len(chosen_on)}) the "
        f"best limit is {best_limit(chosen_on):g}, the tool's {MIN_KEPT:g}.",
        "",
        *_block(rows),
        "AP kept of the float model's mean AP over the pictures as they are and moved by one pixel in four directions.",
        f"That mean is, as a share of the AP on the pictures as they are: {'; '.join(moved.values())}.",
        "",
        *_block([{**row, "kept": row["kept_of_mean"], "error": row["error_of_mean"]} for row in rows]),
        parting(rows),
        "",
    ]
    return "\n".join([*lines, details(rows), ""])


def _block(rows: Sequence[dict[str, Any]]) -> list[str]:
    _, others = halves(rows)
    parts = {
        "all": rows,
        "the half that the limit was not chosen on": others,
        "labels suffice to say that it is not on the other side": [row for row in rows if is_certain(row)],
        "its 90 % interval lies wholly on one side": [row for row in rows if is_wholly(row)],
    }
    return [table(rows), "", *SUMMARY, *(summary(name, part) for name, part in parts.items()), ""]


def main(argv: Sequence[str] | None = None) -> int:
    """Make files, judge what is kept, or print finished tables."""
    parser = argparse.ArgumentParser(prog="python -m edgedet.benchmarks.studies.verdict", description=__doc__)
    parser.add_argument("--shared", type=Path, metavar="DIR", help="sample data: make files from it")
    names = [scene.name for scene in SCENES]
    parser.add_argument(
        "--scene", choices=names, action="append", metavar="NAME", help="make files of this scene; repeat it for more"
    )
    parser.add_argument("--finished", action="store_true", help="make no files, judge those of the cache")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where ledger and detections are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts on what is kept")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="print the tables of a JSON file")
    args = parser.parse_args(argv)
    if args.docs:
        print(show(json.loads(args.docs.read_text(encoding="utf-8"))["files"]))
        return 0
    if args.cache is None or args.shared is None:
        parser.error("--shared DIR and --cache DIR, or --docs FILE, are needed")
    if not args.finished:
        make(args.shared, args.cache, args.scene or names)
    rows = add_verdicts(with_known(rows_of(args.cache), args.cache, args.shared), args.cache)
    if args.json:
        write_json(str(args.json), {"files": rows})
    if args.picture:
        picture(rows, MIN_KEPT, args.picture)
    print(show(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
