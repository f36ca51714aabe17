"""``edgedet bench``: the order of its steps; the table, the JSON line and the exit code."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import __version__, demo
from ..benchmarks.latency.conditions import conditions, power_meter, settings, snapshot
from ..benchmarks.latency.device import device_figures
from ..benchmarks.latency.measure import measure, rounds
from ..benchmarks.latency.options import Checked, add_arguments, checked
from ..benchmarks.latency.prepared import check_engine, prepared
from ..benchmarks.latency.rows import Row, add_accuracy, row_figures
from ..benchmarks.latency.served import ServedDetector
from ..benchmarks.latency.sustain import sustain
from ..benchmarks.latency.table import print_table
from ..errors import EdgeDetError, InputError, PartialFailure, SourceError, require
from ..files import write_json
from ..stream.sources import open_source
from ..types import Frame

if TYPE_CHECKING:
    from ..judge.labels import Dataset

DESCRIPTION = (
    "Measure the latency of the family's models or of model files, one run of each in turn; ends with one line of JSON."
)
EXAMPLE = """  edgedet bench --phi 0-2 --precision fp32,int8 --engine ort,tflite --threads 1,2
  edgedet bench --model edgedet-out/my.onnx --html bench.html
  edgedet bench --model a.onnx b.onnx --source photo.jpg --threads 1 --json bench.json
  edgedet bench --model my_int8.tflite --sustain 30m
  edgedet bench compare before.json after.json"""

SCHEMA = 2  # of the JSON; docs/benchmarking.md says what each entry means
FRAMES = 30  # held in memory, so that reading and decoding are not measured
_TERMINAL_EVERY_S, _LOG_EVERY_S = 0.25, 10.0

__all__ = ["DESCRIPTION", "EXAMPLE", "add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Measure, print the table and the JSON line, and return 0.

    Raises PartialFailure where some models or frames failed or Ctrl-C came, and the reason where no model could be
    measured.
    """
    if args.compare:
        from ..benchmarks.latency.compare import compare_files

        for option in ("model", "phi", "data", "sustain", "html"):
            if getattr(args, option) is not None:
                raise InputError(f"compare measures nothing, so it takes no --{option}.")
        return compare_files(args.compare, args.json)
    options = checked(args)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: children and half-made files go, too
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # our line on a damaged frame is enough; read at cv2's import
    require("cv2", "edgedet bench").setNumThreads(max(options.threads))
    dataset = _dataset(args)
    for line in options.left_out:
        print(f"edgedet: left out: {line}", file=sys.stderr)
    text = sys.stderr if args.json == "-" else sys.stdout
    result = _measured(args, options)
    _extras(args, options, dataset, result)
    print_table(result, text)
    if args.html is not None:
        from ..benchmarks.latency.page import write_page

        write_page(result, args.html)
        print(f"wrote {args.html}", file=text)
    write_json(args.json or "-", result)  # without --json it follows the table
    failures = result["failures"]
    if failures:
        raise PartialFailure(f"{len(failures)} failed, {len(result['models'])} models measured: {'; '.join(failures)}.")
    return 0


def _measured(args: argparse.Namespace, options: Checked) -> dict[str, Any]:
    """Return the whole result of the turns, without what ``_extras`` adds; raises where no model could be measured."""
    frames, failures = _frames(args.source)
    rows, errors = _rows(args, options)
    device, fixed, before = device_figures(), settings(), snapshot()  # before our own load is on it
    counted = _with_progress(rounds(args.runs, args.seconds), args.runs, args.seconds)
    with ExitStack() as held:
        served: dict[str, tuple[Row, ServedDetector]] = {}
        for row in rows:
            try:
                opened = held.enter_context(closing(ServedDetector(row.model, row.threads, args.score)))
            except EdgeDetError as error:
                errors.append((row.label, error))
            else:
                served[row.name] = row, opened
        if not served:
            _raise_all(errors)
        watts: list[float] = []
        counted = _with_power(counted, held.enter_context(power_meter()), watts)
        measured = measure({name: one.run for name, (_, one) in served.items()}, frames, args.warmup, counted)
        figures = [row_figures(*served[name], latency) for name, latency in measured.latencies.items()]
    failures += [(f"{label}: {error}" if label else str(error)).rstrip(".") for label, error in errors]
    failures += [f"{name}: {reason}" for name, reason in measured.failures.items()]
    if measured.interrupted:
        if not figures:
            raise KeyboardInterrupt
        failures.append(f"interrupted after {measured.rounds} rounds")
    if not figures:
        raise InputError(f"no model could be measured: {'; '.join(failures)}.")
    return {
        "schema": SCHEMA,
        "edgedet": __version__,
        **device,
        "conditions": {**conditions(before, snapshot(), fixed), "power_w": sum(watts) / len(watts) if watts else None},
        "threads": options.threads,
        "source": args.source or "demo clip",
        "frames": len(frames),
        "frame_hw": list(frames[0].bgr.shape[:2]),
        "score": args.score,
        "warmup": args.warmup,
        "models": figures,
        "left_out": options.left_out,
        "failures": failures,
        "interrupted": measured.interrupted,
    }


def _dataset(args: argparse.Namespace) -> Dataset | None:
    """Read the labels before anything is measured."""
    if args.data is None:
        return None
    for module in ("pycocotools", "tqdm"):
        require(module, "edgedet bench --data")
    from ..judge.labels import read_dataset

    return read_dataset(args.data, args.images)


def _extras(args: argparse.Namespace, options: Checked, dataset: Dataset | None, result: dict[str, Any]) -> None:
    """Add accuracy, profiles and long runs to the entries, one after the other, so that none disturbs a measurement.

    Ctrl-C ends them; what was measured stays.
    """
    if result["interrupted"]:
        return
    failures = result["failures"]
    try:
        if dataset is not None:
            failures += add_accuracy(result["models"], dataset, max(options.threads))
        if args.profile:
            from ..benchmarks.profile.profile import add_profiles

            failures += add_profiles(result, args.runs)
        if options.sustain_s is not None:
            _sustain(args, options.sustain_s, result)
    except KeyboardInterrupt:
        result["interrupted"] = True
        failures.append("interrupted after the turns")


def _sustain(args: argparse.Namespace, seconds: float, result: dict[str, Any]) -> None:
    frames, _ = _frames(args.source)
    for entry in result["models"]:
        print(f"edgedet: running {entry['model']} for {seconds:.0f} s", file=sys.stderr, flush=True)
        with closing(ServedDetector(entry["model"], entry["threads"], args.score)) as served:
            found = sustain(served.run, frames, seconds)
        entry["sustain"] = {"kept": found.kept, "windows": [asdict(window) for window in found.windows]}
        if found.failure is not None:
            result["failures"].append(f"{entry['model']}: {found.failure}")
        if found.interrupted:
            raise KeyboardInterrupt


def _rows(args: argparse.Namespace, options: Checked) -> tuple[list[Row], list[tuple[str, EdgeDetError]]]:
    """Export what is missing; return the rows, and what failed with its name."""
    rows: list[Row] = []
    errors: list[tuple[str, EdgeDetError]] = []
    absent = set()
    for engine in dict.fromkeys(one.engine for one in options.wanted):  # once for all sizes and precisions
        try:
            check_engine(engine)
        except EdgeDetError as error:
            errors.append(("", error))
            absent.add(engine)
    for one in options.wanted:
        if one.engine in absent:
            continue
        try:
            path = str(prepared(one, max(options.threads)))
        except EdgeDetError as error:
            errors.append((one.label, error))
            continue
        rows += [Row(path, count, one) for count in options.threads]
    rows += [Row(model, count) for model in dict.fromkeys(args.model or ()) for count in options.threads]
    return rows, errors


def _raise_all(errors: list[tuple[str, EdgeDetError]]) -> None:
    """Raise the one error as it is, several as one line."""
    if len(errors) == 1:
        raise errors[0][1]
    raise InputError("; ".join(dict.fromkeys(str(error).rstrip(".") for _, error in errors)) + ".")


def _frames(source: str | None) -> tuple[list[Frame], list[str]]:
    """Return frames of the source and one line for each that could not be read; raises SourceError without any."""
    if source is None:
        return [Frame(bgr, captured_s=0.0, index=index) for index, bgr in enumerate(demo.clip_frames(FRAMES))], []
    with closing(open_source(source, lambda: False)) as opened:
        if opened.live:
            raise InputError(f"--source {source} is live, and every model must see the same frames: name a file.")
        frames = list(islice(opened, FRAMES))
        failures = [failure.rstrip(".") for failure in opened.failures]
    if not frames:
        raise SourceError(f"{failures[0] if failures else f'{source} holds no frame'}.")
    return frames, failures


def _with_power(counted: Iterator[int], power_w: Callable[[], float | None], watts: list[float]) -> Iterator[int]:
    """Note the board's power after each round, while it is at work still."""
    for index in counted:
        yield index
        if (watt := power_w()) is not None:
            watts.append(watt)


def _with_progress(counted: Iterator[int], runs: int, seconds: float) -> Iterator[int]:
    """Say on stderr how far the measuring is and how long it will take; between rounds, so that it costs no run."""
    started = time.monotonic()
    terminal = sys.stderr.isatty()
    printed = started
    for index in counted:
        now = time.monotonic()
        if now - printed >= (_TERMINAL_EVERY_S if terminal else _LOG_EVERY_S):
            left_s = max(seconds - (now - started), (now - started) / max(index, 1) * (runs - index), 0.0)
            line = f"round {index + 1}, about {left_s:.0f} s left"
            print(f"\r{line}\x1b[K" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
            printed = now
        yield index
    if terminal:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
