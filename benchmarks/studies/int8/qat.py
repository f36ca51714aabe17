"""Does training for INT8 keep more AP than calibration, and is it the rounding that helps?

    python -m edgedet.benchmarks.studies.int8.qat WEIGHTS --data train/ --test test/ --out DIR

For each seed, which chooses the 64 pictures to calibrate on, the order of pictures and their changes, three .tflite
files are measured:

calibrated: as ``edgedet export --int8`` makes it: ranges, corrected biases, boxes of the right size.
rounded:    from these ranges trained while values and weights are rounded, as ``edgedet train --int8`` does.
control:    the same training without rounding; then the same ranges, corrected biases, boxes of the right size.

Without the control one would take for the merit of rounding what any more training gives. AP is the mean over CHANGES
changes of one grey level (``ap_spread``). Each figure goes into DIR/qat.json as soon as it is measured, and a second
start goes on, also within a training. ``--docs DIR/qat.json ...`` prints the table of docs/training.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch

from edgedet.artifact import ArtifactMeta
from edgedet.benchmarks.studies.int8.ap_spread import match_under_changes
from edgedet.benchmarks.studies.one_line import ends_in_one_line
from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.placement.plan import DensePlan, make_dense_plan
from edgedet.calibration.quantise import RECOVERY_FRAMES, Quantised, quantise
from edgedet.calibration.recovery.recover import correct_biases
from edgedet.errors import InputError
from edgedet.export.checkpoints.checkpoint import load_checkpoint, network_from_checkpoint, parse_size
from edgedet.export.fusion.fuse import graph_from_network
from edgedet.export.int8.centre import Centring
from edgedet.export.int8.files import TFLITE
from edgedet.export.int8.workers import open_here
from edgedet.export.onnx_file import write_onnx
from edgedet.files import make_folder, write_json
from edgedet.judge.labels import read_dataset
from edgedet.specs import resized
from edgedet.training.augment import Augmentation
from edgedet.training.fit import STATE, FitOptions, Row, fit
from edgedet.training.int8.distil import make_teacher_loss
from edgedet.training.int8.fake_quantised import FakeQuantised
from edgedet.training.int8.train_int8 import RATE, calibration_pixels, quantise_trained, write_biases
from edgedet.training.processes import Processes
from edgedet.training.samples import Pictures, select_labels
from edgedet.training.train import map_classes
from edgedet.types import ModelInput

CHANGES, BATCH = 4, 8
ARMS = ("calibrated", "rounded", "control")


class Comparison:
    """One checkpoint with its pictures, and the three files of each seed."""

    def __init__(self, args: argparse.Namespace) -> None:
        """``args``: of the command line."""
        checkpoint = load_checkpoint(args.weights)
        if args.size:
            checkpoint = replace(checkpoint, spec=resized(checkpoint.spec, parse_size(args.size)))
        self.sha256, self.spec = checkpoint.sha256, checkpoint.spec
        self.meta = ArtifactMeta(self.spec, checkpoint.class_names, "fp32", checkpoint.sha256)
        self.graph = graph_from_network(network_from_checkpoint(checkpoint), self.meta)
        data = read_dataset(args.data)
        self.labelled = select_labels(data.images, map_classes(data, checkpoint.class_names))
        self.test = read_dataset(args.test)
        self.out, self.epochs, self.rate, self.threads = args.out, args.epochs, args.rate, args.threads
        self._calibrated: dict[int, Quantised] = {}

    def measure_float(self) -> dict[str, Any]:
        """Measure the float network."""
        return {"ap": self._measure_float_graph(self.graph)}

    def measure(self, arm: str, seed: int) -> dict[str, Any]:
        """Make and measure one file.

        ``cpu_s`` are the processor's seconds for making it beyond the calibration; of a training that was stopped,
        those since it went on.
        """
        pictures = self._pictures(seed)
        calibrated = self._calibrate(pictures, seed)
        began_s, more = time.process_time(), {}
        if arm == "calibrated":
            made = self._centre(calibrated, pictures)
        else:
            plan = calibrated.dense if arm == "rounded" else None
            start = calibrated.model if plan is None else write_biases(calibrated.model, self.spec, plan)
            trained = self._train(FakeQuantised(start, self.spec, plan), calibrated, pictures, seed, arm)
            model = trained.trained_model(start)
            made = quantise_trained(model, self.spec, calibrated)
            if arm == "control":
                more["float_ap"] = self._measure_float_graph(model)
                made = self._centre(self._correct(made, pictures), pictures)
        seconds = time.process_time() - began_s
        path = self.out / f"{arm}-{seed}.tflite"
        TFLITE.write(made, replace(self.meta, precision="int8"), path)
        aps = self._measure_file(path, CHANGES)
        return {"ap": float(np.mean(aps)), "aps": aps, "cpu_s": seconds, **more}

    def _pictures(self, seed: int) -> Pictures:
        order = np.random.default_rng(seed).permutation(len(self.labelled))
        return Pictures([self.labelled[at] for at in order], self.spec, Augmentation(), seed)

    def _calibrate(self, pictures: Pictures, seed: int) -> Quantised:
        if seed not in self._calibrated:
            self._calibrated = {
                seed: quantise(self.graph, self.spec, calibration_pixels(pictures), self.sha256, say=_say)
            }
        return self._calibrated[seed]

    def _train(
        self, student: FakeQuantised, calibrated: Quantised, pictures: Pictures, seed: int, arm: str
    ) -> FakeQuantised:
        folder = self.out / f"{arm}-{seed}"
        make_folder(folder)
        resume = (folder / STATE).is_file()
        options = FitOptions(self.epochs, BATCH, rate=self.rate, seed=seed, resume=resume, settings={"arm": arm})
        teacher = make_teacher_loss(FakeQuantised(calibrated.model, self.spec, None))
        alone = Processes(0, 1, torch.device("cpu"))

        def judge(model: torch.nn.Module, epoch: int) -> Row:
            return {"AP": None}

        def report(history: list[Row], left_s: float) -> None:
            _say(f"{arm}, seed {seed}: {history[-1]}")

        return cast(FakeQuantised, fit(student, self.spec, pictures, options, alone, folder, judge, report, teacher))

    def _correct(self, quantised: Quantised, pictures: Pictures) -> Quantised:
        pixels = calibration_pixels(pictures)
        batch = np.concatenate(pixels[:: max(1, len(pixels) // RECOVERY_FRAMES)][:RECOVERY_FRAMES])
        plan = make_dense_plan(quantised.model, self.spec, quantised.table)
        return replace(quantised, dense=cast(DensePlan, correct_biases(Executor(quantised.model), plan, batch)))

    def _centre(self, quantised: Quantised, pictures: Pictures) -> Quantised:
        """Set the size of boxes right by the float network that was quantised."""
        frames = [ModelInput(pixels, 1.0, self.spec.input_hw) for pixels in calibration_pixels(pictures)]
        path = self.out / "float.onnx"
        write_onnx(quantised.model, self.meta, path)
        with closing(open_here(path, self.threads)) as detector:
            centring = Centring(detector, self.meta, frames, partial(open_here, threads=self.threads))
            centred, errors = centring.centre(quantised, TFLITE)
        _say(errors.line())
        return centred

    def _measure_float_graph(self, model: onnx.ModelProto) -> float:
        path = self.out / "float.onnx"
        write_onnx(model, self.meta, path)
        return self._measure_file(path, 1)[0]

    def _measure_file(self, path: Path, changes: int) -> list[float]:
        runs = match_under_changes(path, self.test, changes, self.threads)
        return [run.compute_ap(np.ones(len(self.test.images))) or 0.0 for run in runs]


def make_table(paths: Sequence[Path]) -> str:
    """Return the Markdown table of measured files, which are called qat-DATA-MODEL.json."""
    lines = [
        "| data | model | rate | seeds | float | calibrated | trained while rounding "
        "| trained without, then calibrated | what rounding adds | CPU min |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for path in paths:
        held = json.loads(path.read_text(encoding="utf-8"))
        cells = held["cells"]
        by_arm = {
            arm: {name.rpartition(" ")[2]: cell["ap"] for name, cell in cells.items() if name.startswith(f"{arm},")}
            for arm in ARMS
        }
        rounded, control = by_arm["rounded"], by_arm["control"]
        gains = [ap - control[seed] for seed, ap in rounded.items() if seed in control]  # of the same pictures
        minutes = [cell["cpu_s"] / 60 for name, cell in cells.items() if name.startswith("rounded,")]
        seeds = len({name.rpartition(" ")[2] for name in cells if ", seed " in name})
        shown = [_show(list(aps.values()), "") for aps in by_arm.values()]
        lines.append(
            f"| {path.stem.split('-')[1]} | {held['model']}, {held['size']} | {held['settings']['rate']:g} | {seeds} "
            f"| {cells['float']['ap']:.4f} | {' | '.join(shown)} | {_show(gains, '+')} | {np.mean(minutes):.1f} |"
        )
    return "\n".join(lines) + "\n"


def _show(values: Sequence[float], sign: str) -> str:
    """Return the mean with the least and the largest value; ``sign`` is "+" for differences."""
    if not values:
        return "-"
    mean, least, largest = (f"{value:{sign}.4f}" for value in (np.mean(values), min(values), max(values)))
    return f"{mean} ({least} to {largest})" if len(values) > 1 else mean


@ends_in_one_line
def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the JSON file does not have, or print the table of finished files."""
    parser = argparse.ArgumentParser(
        prog="python -m edgedet.benchmarks.studies.int8.qat",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("weights", type=Path, nargs="?", metavar="WEIGHTS", help="float checkpoint")
    parser.add_argument("--data", type=Path, metavar="X", help="labelled pictures to learn from and to calibrate on")
    parser.add_argument("--test", type=Path, metavar="Y", help="labelled pictures to judge on")
    parser.add_argument("--size", metavar="HxW", help="input size in pixels (default: the checkpoint's)")
    parser.add_argument("--epochs", type=int, default=1, metavar="N", help="of each training (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=RATE, help="as --int8-lr of edgedet train (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, help="files to make (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for files, states and qat.json")
    parser.add_argument("--docs", type=Path, nargs="+", metavar="FILE", help="print the table of these files")
    args = parser.parse_args(argv)
    if args.docs:
        print(make_table(args.docs), end="")
        return 0
    if None in (args.weights, args.data, args.test, args.out):
        raise InputError("the study needs WEIGHTS, --data, --test and --out; --docs prints finished ones.")
    torch.set_num_threads(args.threads)
    make_folder(args.out)
    comparison = Comparison(args)
    path, hw = args.out / "qat.json", "{}x{}".format(*comparison.spec.input_hw)
    settings = {"epochs": args.epochs, "rate": args.rate, "learnt_from": len(comparison.labelled)}
    held: dict[str, Any] = {
        "model": comparison.spec.name,
        "size": hw,
        "sha256": comparison.sha256,
        "settings": settings,
        "images": len(comparison.test.images),
        "cells": {},
    }
    if path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if any(earlier[key] != value for key, value in held.items() if key != "cells"):
            raise InputError(f"{path} holds figures of another checkpoint or of other settings: name another --out.")
        held["cells"] = earlier["cells"]
    cells = [("float", comparison.measure_float)]
    for seed in range(args.seeds):
        cells += [(f"{arm}, seed {seed}", partial(comparison.measure, arm, seed)) for arm in args.arms]
    for name, measure in cells:
        if name not in held["cells"]:
            held["cells"][name] = measure()
            write_json(str(path), held)
            _say(f"{name}: {held['cells'][name]}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
