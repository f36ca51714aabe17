"""``edgedet bench``: options to models and frames; the table, the JSON line and the exit code."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from edgedet import __version__, demo
from edgedet.benchmarks.bench_table import print_table
from edgedet.benchmarks.conditions import conditions, settings, snapshot
from edgedet.benchmarks.device import device_figures
from edgedet.benchmarks.latency import Latency, measure, rounds
from edgedet.benchmarks.prepared import ENGINES, PRECISIONS, Wanted, prepared, wanted_files
from edgedet.benchmarks.served import ServedDetector
from edgedet.engines.base import check_threads, default_threads
from edgedet.errors import EdgeDetError, InputError, PartialFailure, SourceError, require
from edgedet.files import write_json
from edgedet.postprocess import DEFAULT_SCORE, logit_of
from edgedet.stream.sources import open_source
from edgedet.types import Frame

DESCRIPTION = (
    "Measure the latency of the family's models or of model files, one run of each in turn; ends with one line of JSON."
)
EXAMPLE = """  edgedet bench --phi 0-2 --precision fp32,int8 --engine ort,tflite --threads 1,2
  edgedet bench --model edgedet-out/my.onnx
  edgedet bench --model a.onnx b.onnx --source photo.jpg --threads 1 --json bench.json"""

SCHEMA = 2  # of the JSON; docs/benchmarking.md says what each entry means
FRAMES = 30  # held in memory, so that reading and decoding are not measured
_TERMINAL_EVERY_S, _LOG_EVERY_S = 0.25, 10.0


@dataclass(frozen=True)
class Row:
    """One line of the table to be: a file on a number of threads.

    wanted: the member of the family that the file was exported as; None for the user's own files.
    """

    model: str
    threads: int
    wanted: Wanted | None = None

    @property
    def name(self) -> str:
        """The name in messages."""
        return f"{self.wanted.label if self.wanted else self.model}, {self.threads} threads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet bench``."""
    family = parser.add_argument_group("models of the family, exported and cached")
    family.add_argument("--phi", metavar="N,M-L", help="compound scaling: 0-7, or 8 for D7x; numbers and ranges")
    family.add_argument(
        "--precision", default="fp32", metavar="A,B", help=f"of {', '.join(PRECISIONS)} (default: %(default)s)"
    )
    family.add_argument(
        "--engine", default="ort", metavar="A,B", help=f"of {', '.join(ENGINES)} (default: %(default)s)"
    )
    family.add_argument(
        "--weights", metavar="FILE", help="checkpoint, or 'demo' (default: random weights, which find nothing of use)"
    )
    family.add_argument("--seed", type=int, default=0, help="of random weights (default: %(default)s)")
    parser.add_argument("--model", nargs="+", metavar="A", help="model files, measured in turns")
    parser.add_argument("--source", metavar="X", help="image, folder or video (default: the demo's clip)")
    parser.add_argument("--runs", type=int, default=50, help="runs of each model, at least (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="measure for this time, at least (default: %(default)s)"
    )
    parser.add_argument("--warmup", type=int, default=5, help="runs before those that count (default: %(default)s)")
    parser.add_argument(
        "--threads", default=str(default_threads()), metavar="N,M", help="CPU threads (default: %(default)s)"
    )
    parser.add_argument(
        "--score", type=float, default=DEFAULT_SCORE, help="leave out what is less sure, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the JSON line to FILE; without FILE, print it alone"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the table and the JSON line, and return 0.

    Raises PartialFailure where some models or frames failed or Ctrl-C came, and the reason where no model could be
    measured.
    """
    threads = _checked(args)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # our line on a damaged frame is enough; read at cv2's import
    require("cv2", "edgedet bench").setNumThreads(max(threads))
    text = sys.stderr if args.json == "-" else sys.stdout
    wanted, left_out = _wanted(args)
    for line in left_out:
        print(f"edgedet: left out: {line}", file=sys.stderr)
    frames, failures = _frames(args.source)
    rows, errors = _rows(args, wanted, threads)
    device, fixed, before = device_figures(), settings(), snapshot()  # before our own load is on it
    counted = _with_progress(rounds(args.runs, args.seconds), args.runs, args.seconds)
    with ExitStack() as held:
        served: dict[Row, ServedDetector] = {}
        for row in rows:
            try:
                served[row] = held.enter_context(closing(ServedDetector(row.model, row.threads, args.score)))
            except EdgeDetError as error:
                errors.append((row.name if row.wanted else "", error))
        if not served:
            _raise_all(errors)
        names = {row.name: row for row in served}
        measured = measure({row.name: one.run for row, one in served.items()}, frames, args.warmup, counted)
        figures = [
            _figures(names[name], served[names[name]], latency) for name, latency in measured.latencies.items()
        ]  # fmt: skip
    record = conditions(before, snapshot(), fixed)
    failures += [f"{name}: {error}".removeprefix(": ").rstrip(".") for name, error in errors]
    failures += [f"{name}: {reason}" for name, reason in measured.failures.items()]
    if measured.interrupted:
        failures.append(f"interrupted after {measured.rounds} rounds")
    if not figures:
        if measured.interrupted:
            raise KeyboardInterrupt
        raise InputError(f"no model could be measured: {'; '.join(failures)}.")
    result = {
        "schema": SCHEMA,
        "edgedet": __version__,
        **device,
        "conditions": record,
        "threads": threads,
        "source": args.source or "demo clip",
        "frames": len(frames),
        "frame_hw": list(frames[0].bgr.shape[:2]),
        "score": args.score,
        "warmup": args.warmup,
        "models": figures,
        "left_out": left_out,
        "failures": failures,
    }
    print_table(result, text)
    write_json(args.json or "-", result)  # without --json it follows the table
    if failures:
        raise PartialFailure(f"{len(failures)} failed, {len(figures)} models measured: {'; '.join(failures)}.")
    return 0


def _checked(args: argparse.Namespace) -> list[int]:
    """Check the options that cost nothing to check; return the numbers of threads."""
    if not args.model and args.phi is None:
        raise InputError("nothing to measure: name one or more files after --model, or --phi 0-2 for the family.")
    for option, least in (("runs", 1), ("warmup", 0)):
        if getattr(args, option) < least:
            raise InputError(f"--{option} wants a number from {least} up; got {getattr(args, option)}.")
    if not 0 <= args.seconds < float("inf"):
        raise InputError(f"--seconds wants a number from 0 up; got {args.seconds}.")
    logit_of(args.score)
    threads = numbers("--threads", args.threads)
    for count in threads:
        if count < 1:
            raise InputError(f"--threads wants a number from 1 up; got {count}.")
        check_threads(count)
    return threads


def numbers(option: str, text: str) -> list[int]:
    """Parse "0,2,4-6" to [0, 2, 4, 5, 6], each once; raises InputError naming the option."""
    found: list[int] = []
    for part in text.split(","):
        ends = part.strip().split("-")
        if len(ends) > 2 or not all(end.isdigit() and len(end) < 6 for end in ends) or int(ends[0]) > int(ends[-1]):
            raise InputError(f"{option} takes numbers and ranges, such as 0,2,4-6; got {text!r}.")
        found += range(int(ends[0]), int(ends[-1]) + 1)
    return list(dict.fromkeys(found))


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def _wanted(args: argparse.Namespace) -> tuple[list[Wanted], list[str]]:
    if args.phi is None:
        return [], []
    phis = numbers("--phi", args.phi)
    if args.weights is not None and len(phis) > 1:
        raise InputError(f"--weights is of one model, but --phi names {len(phis)}: name one.")
    if args.weights not in (None, "demo") and not Path(args.weights).is_file():
        raise InputError(f"there is no checkpoint {args.weights}: name a file, or demo.")
    return wanted_files(
        phis, _names(args.precision), _names(args.engine), weights=args.weights, seed=args.seed
    )  # fmt: skip


def _rows(
    args: argparse.Namespace, wanted: list[Wanted], threads: list[int]
) -> tuple[list[Row], list[tuple[str, EdgeDetError]]]:
    """Export what is missing; return the rows, and what failed with its name."""
    rows, errors = [], []
    for one in wanted:
        try:
            path = str(prepared(one, max(threads)))
        except EdgeDetError as error:
            errors.append((one.label, error))
            continue
        rows += [Row(path, count, one) for count in threads]
    rows += [Row(model, count) for model in dict.fromkeys(args.model or ()) for count in threads]
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


def _figures(row: Row, served: ServedDetector, latency: Latency) -> dict[str, Any]:
    opened = served.opened
    spec = opened.meta.spec
    return {
        "model": row.model,
        "model_sha256": opened.sha256,
        "name": spec.name,
        "phi": row.wanted.phi if row.wanted else None,
        "weights": (row.wanted.weights or f"random, seed {row.wanted.seed}") if row.wanted else None,
        "input_hw": list(spec.input_hw),
        "precision": opened.meta.precision,
        "engine": opened.engine,
        "threads": row.threads,
        "bytes": Path(row.model).stat().st_size,
        "n": latency.runs,
        "fps": latency.fps,
        "ms": latency.percentiles_ms(),
        "cpu_ms": latency.cpu_ms,
        "peak_rss_mb": served.peak_rss_mb(),
        "rss_before_mb": opened.rss_before_mb,
        "runs_ms": {
            stage: [round(value, 3) for value in latency.stages_ms[stage]] for stage in ("network", "end to end")
        },
    }
