"""Our .tflite file beside another converter's of the same network: operators, time, accuracy. Needs no converter.

    python -m edgedet.benchmarks.studies.compare_converters OURS.tflite PEER.tflite --data cards/test --json out.json

OURS is a file of ``edgedet export``. PEER is effdet's network with a channel-last input (normalised RGB) and its ten
outputs in effdet's order, as scripts/convert_with_litert_torch.py writes it; both INT8 or both float.

Time is of ``Interpreter.invoke`` on one thread, the two in turns, by the wall's clock and by the CPU's; ratios are
medians over the turns. Time outside convolutions is what LiteRT's own profiler counts for XNNPACK's and its other
operators, in turns as well.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.artifact import ArtifactMeta
from edgedet.benchmarks.latency.device import device_figures
from edgedet.benchmarks.profile.tflite_profile import (
    Profile,
    interpreter_of,
    operators_of,
    outside_convolutions,
    outside_xnnpack,
)
from edgedet.detector import Detector
from edgedet.engines.base import open_engine
from edgedet.engines.tflite_file import read_trailer
from edgedet.errors import EdgeDetError, InputError
from edgedet.files import sha256_of, write_json
from edgedet.judge.average_precision import SCORE_FLOOR, average_precision, detect_images
from edgedet.judge.labels import match_classes, read_dataset
from edgedet.progress import with_progress
from edgedet.types import RawOutputs

SIDES = ("ours", "peer")
TARGETS = {"operators": 570, "time": 0.92, "time outside convolutions": 0.6}  # at most; the latter two of the peer's


class PeerEngine:
    """effdet's network as another converter wrote it, behind the interface of our engines."""

    def __init__(self, path: Path, meta: ArtifactMeta, threads: int = 1) -> None:
        """``meta``: of our file, which is of the same network. Raises InputError where inputs or outputs differ."""
        self._interpreter = interpreter_of(path.read_bytes(), threads)
        (runner,) = [self._interpreter.get_signature_runner(key) for key in self._interpreter.get_signature_list()]
        outputs = sorted(runner.get_output_details().items(), key=lambda item: int(item[0].rpartition("_")[2]))
        (self._input,) = runner.get_input_details().values()
        self._outputs = [details for _, details in outputs]
        sizes, anchors, self._classes = meta.spec.level_sizes(), meta.spec.anchors_per_cell, meta.spec.num_classes
        wanted = [(1, *size, anchors * width) for width in (self._classes, 4) for size in sizes]
        found = [tuple(details["shape"].tolist()) for details in self._outputs]
        if found != wanted or tuple(self._input["shape"].tolist()) != (1, *meta.spec.input_hw, 3):
            raise InputError(f"{path} takes {self._input['shape']} and gives {found}; wanted outputs {wanted}.")
        scale, zero = self._input["quantization"] if self._input["dtype"] == np.int8 else (1.0, 0)
        real = (np.arange(256)[:, None] / 255.0 - np.array(meta.spec.mean_rgb)) / np.array(meta.spec.std_rgb)
        if self._input["dtype"] == np.int8:
            real = np.clip(np.rint(real / scale) + zero, -128, 127)
        self._table = real.astype(self._input["dtype"])  # (256, 3) RGB: what each byte becomes

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run (1, H, W, 3) uint8 BGR pixels."""
        prepared = self._interpreter.tensor(self._input["index"])()
        for channel in range(3):
            np.take(self._table[:, channel], pixels[..., 2 - channel], out=prepared[..., channel])
        del prepared
        self._interpreter.invoke()
        levels = [self._real(details) for details in self._outputs]
        half = len(levels) // 2
        return RawOutputs(
            np.concatenate([level.reshape(-1, self._classes) for level in levels[:half]]),
            np.concatenate([level.reshape(-1, 4) for level in levels[half:]]),
        )

    def close(self) -> None:
        """Free the interpreter."""
        del self._interpreter

    def _real(self, details: dict[str, Any]) -> np.ndarray:
        values = self._interpreter.get_tensor(details["index"]).astype(np.float32)
        scale, zero = details["quantization"]
        return values if details["dtype"] == np.float32 else (values - np.float32(zero)) * np.float32(scale)


def invoke_times_ms(files: Sequence[bytes], rounds: int, warmup: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return wall and CPU time, (rounds, files) milliseconds of one run each in turn, on one thread and random inputs.

    CPU time leaves out what a busy machine gives to others meanwhile.
    """
    interpreters = [interpreter_of(data) for data in files]
    for interpreter in interpreters:
        (image,) = interpreter.get_input_details()
        random = np.random.default_rng(0).integers(-128, 127, image["shape"])
        interpreter.set_tensor(image["index"], random.astype(image["dtype"]))
    times = np.empty((2, warmup + rounds, len(interpreters)))
    for index in range(warmup + rounds):
        for side in np.roll(np.arange(len(interpreters)), index):
            started = time.perf_counter(), time.thread_time()
            interpreters[side].invoke()
            ended = time.perf_counter(), time.thread_time()
            times[:, index, side] = np.subtract(ended, started) * 1e3
    wall, cpu = times[:, warmup:]
    return wall, cpu


def profiles_ms(paths: Sequence[Path], rounds: int) -> list[list[dict[str, float]]]:
    """Return the times by node type of each file in each round."""
    profiles = [Profile(path) for path in paths]
    turns = [[profile.run() for profile in profiles] for _ in range(rounds)]
    return [[turn[side] for turn in turns] for side in range(len(paths))]


def median_ratio(ours: Sequence[float] | np.ndarray, peer: Sequence[float] | np.ndarray) -> float:
    """Return the median over rounds of ours / peer."""
    return float(np.median(np.asarray(ours) / np.asarray(peer)))


def accuracy_of(ours: Path, peer: Path, data: Path, images: Path | None) -> dict[str, float | None]:
    """Return AP of both files, by the same pre- and post-processing."""
    dataset = read_dataset(data, images)
    meta, engine = open_engine(ours, 1)
    figures = {}
    for side, opened in (("ours", engine), ("peer", PeerEngine(peer, meta))):
        with Detector((meta, opened), 1, SCORE_FLOOR) as detector:
            class_map = match_classes(dataset, meta.class_names)
            found, failures = detect_images(detector, with_progress(dataset.images, side, "image"))
            if failures or dataset.failures:
                raise InputError(f"images cannot be read: {(failures + list(dataset.failures))[0]}.")
            figures[side] = average_precision(found, class_map, meta.class_names).figures["AP"]
    return figures


def compare(ours: Path, peer: Path, rounds: int, data: Path | None, images: Path | None) -> dict[str, Any]:
    """Return all figures."""
    paths = dict(zip(SIDES, (ours, peer), strict=True))
    files = [read_trailer(ours)[1], peer.read_bytes()]
    kinds = {side: operators_of(data) for side, data in zip(SIDES, files, strict=True)}
    partitions = {side: found.pop("DELEGATE", 0) for side, found in kinds.items()}
    wall, cpu = invoke_times_ms(files, rounds)
    profiles = dict(zip(SIDES, profiles_ms((ours, peer), rounds), strict=True))
    outside = {side: [outside_convolutions(turn) for turn in turns] for side, turns in profiles.items()}
    return {
        "files": {side: {"path": str(path), "sha256": sha256_of(path)} for side, path in paths.items()},
        "operators": {side: dict(found) for side, found in kinds.items()},
        "operator_count": {side: found.total() for side, found in kinds.items()},
        "xnnpack_partitions": partitions,
        "outside_xnnpack": {
            side: dict(outside_xnnpack(data)) for side, data in zip(SIDES, files, strict=True)
        },
        "wall_p50_ms": dict(zip(SIDES, np.median(wall, axis=0).tolist(), strict=True)),
        "wall_ratio": median_ratio(wall[:, 0], wall[:, 1]),
        "cpu_p50_ms": dict(zip(SIDES, np.median(cpu, axis=0).tolist(), strict=True)),
        "cpu_ratio": median_ratio(cpu[:, 0], cpu[:, 1]),
        "profile_p50_ms": {side: _medians(turns) for side, turns in profiles.items()},
        "outside_convolutions_p50_ms": {side: float(np.median(values)) for side, values in outside.items()},
        "outside_convolutions_ratio": median_ratio(outside["ours"], outside["peer"]),
        "ap": None if data is None else accuracy_of(ours, peer, data, images),
        "rounds": rounds,
        "targets": TARGETS,
        **device_figures(),
    }  # fmt: skip


def _medians(turns: Sequence[dict[str, float]]) -> dict[str, float]:
    return {kind: float(np.median([turn.get(kind, 0.0) for turn in turns])) for kind in turns[-1]}


def _print(figures: dict[str, Any]) -> None:
    print(f"{figures['device']}, 1 thread, {figures['rounds']} rounds in turns, load {figures['load_1min'] or 0:.1f}\n")
    print(f"{'':<46}{'ours':>9}{'peer':>9}{'ratio':>8}{'target':>8}")

    def row(
        name: str, both: dict[str, float], form: str, ratio: float | None = None, target: float | None = None
    ) -> None:
        last = f"{'' if ratio is None else f'{ratio:.3f}':>8}{'' if target is None else target:>8}"
        print(f"{name:<46}{both['ours']:>9{form}}{both['peer']:>9{form}}{last}".rstrip())

    def rows(title: str, by_side: dict[str, dict[str, float]], form: str) -> None:
        print(title)
        for name in sorted({*by_side["ours"], *by_side["peer"]}, key=lambda kind: -by_side["peer"].get(kind, 0)):
            row(f"  {name}", {side: by_side[side].get(name, 0) for side in SIDES}, form)

    row("operators", figures["operator_count"], "d", None, TARGETS["operators"])
    rows("operators by kind", figures["operators"], "d")
    row("XNNPACK partitions", figures["xnnpack_partitions"], "d")
    rows("operators outside XNNPACK", figures["outside_xnnpack"], "d")
    row("wall time, ms (median)", figures["wall_p50_ms"], ".2f", figures["wall_ratio"], TARGETS["time"])
    row("CPU time, ms (median)", figures["cpu_p50_ms"], ".2f", figures["cpu_ratio"], TARGETS["time"])
    row(
        "outside convolutions, ms (median)", figures["outside_convolutions_p50_ms"], ".2f",
        figures["outside_convolutions_ratio"], TARGETS["time outside convolutions"],
    )  # fmt: skip
    rows("LiteRT's profile, ms (median)", figures["profile_p50_ms"], ".3f")
    if figures["ap"] is not None:
        row("AP", figures["ap"], ".4f")


def main(argv: list[str] | None = None) -> int:
    """Print the table, and with ``--json`` the figures."""
    parser = argparse.ArgumentParser(description="Compare our .tflite file with another converter's.")
    parser.add_argument("ours", type=Path, help="file of edgedet export")
    parser.add_argument("peer", type=Path, help="file of scripts/convert_with_litert_torch.py")
    parser.add_argument("--data", type=Path, help="labelled images for AP: COCO JSON or Pascal VOC folder")
    parser.add_argument("--images", type=Path, help="where the images of --data are")
    parser.add_argument("--rounds", type=int, default=60, help="runs of each file (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON to FILE, or - for stdout")
    args = parser.parse_args(argv)
    try:
        figures = compare(args.ours, args.peer, max(args.rounds, 1), args.data, args.images)
    except EdgeDetError as error:
        print(f"edgedet: {error}", file=sys.stderr)
        return error.exit_code
    if args.json != "-":
        _print(figures)
    write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
