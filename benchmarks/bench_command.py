"""``edgedet bench``: options to models and frames; the table, the JSON line and the exit code."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from edgedet import __version__, demo
from edgedet.benchmarks.device import device_figures, engine_version
from edgedet.benchmarks.latency import PERCENTILES, Latency, measure, rounds
from edgedet.detector import Detector
from edgedet.engines.base import check_threads, default_threads
from edgedet.errors import EdgeDetError, InputError, PartialFailure, SourceError, require
from edgedet.files import sha256_of, write_json
from edgedet.postprocess import DEFAULT_SCORE, logit_of
from edgedet.stream.sources import open_source
from edgedet.types import Frame

DESCRIPTION = "Measure the latency of model files, one run of each in turn; ends with one line of JSON."
EXAMPLE = """  edgedet bench --model edgedet-out/my.onnx
  edgedet bench --model a.onnx b.onnx --source photo.jpg --threads 1 --json bench.json"""

FRAMES = 30  # held in memory, so that reading and decoding are not measured
_TERMINAL_EVERY_S, _LOG_EVERY_S = 0.25, 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet bench``."""
    parser.add_argument("--model", nargs="+", metavar="A", help="model files, measured in turns")
    parser.add_argument("--source", metavar="X", help="image, folder or video (default: the demo's clip)")
    parser.add_argument("--runs", type=int, default=50, help="runs of each model, at least (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="measure for this time, at least (default: %(default)s)"
    )
    parser.add_argument("--warmup", type=int, default=5, help="runs before those that count (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--score", type=float, default=DEFAULT_SCORE, help="leave out what is less sure, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the JSON line to FILE; without FILE, print it alone"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the table and the JSON line, and return 0.

    Raises PartialFailure where some models or frames failed, and the reason where no model could be measured.
    """
    if not args.model:
        raise InputError("nothing to measure: name one or more files after --model.")
    for option, least in (("threads", 1), ("runs", 1), ("warmup", 0)):
        if getattr(args, option) < least:
            raise InputError(f"--{option} wants a number from {least} up; got {getattr(args, option)}.")
    if not 0 <= args.seconds < float("inf"):
        raise InputError(f"--seconds wants a number from 0 up; got {args.seconds}.")
    logit_of(args.score)
    check_threads(args.threads)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # our line on a damaged frame is enough; read at cv2's import
    require("cv2", "edgedet bench").setNumThreads(args.threads)
    text = sys.stderr if args.json == "-" else sys.stdout
    frames, failures = _frames(args.source)
    models = list(dict.fromkeys(args.model))
    errors: list[EdgeDetError] = []
    with ExitStack() as held:
        detectors: dict[str, Detector] = {}
        for model in models:
            try:
                detectors[model] = held.enter_context(closing(Detector(model, args.threads, args.score)))
            except EdgeDetError as error:
                errors.append(error)
        if not detectors:
            raise errors[0] if len(errors) == 1 else InputError("; ".join(str(error).rstrip(".") for error in errors))
        device = device_figures()  # before our own load is on it
        counted = _with_progress(rounds(args.runs, args.seconds), args.runs, args.seconds)
        latencies, failed = measure(
            {model: detector.detect for model, detector in detectors.items()}, frames, args.warmup, counted
        )
        rows = [_row(model, detectors[model], latency) for model, latency in latencies.items()]
    failures += [str(error).rstrip(".") for error in errors]
    failures += [f"{model}: {reason}" for model, reason in failed.items()]
    if not rows:
        raise InputError(f"no model could be measured: {'; '.join(failures)}.")
    _print_table(device, rows, args, len(frames), text)
    figures = {
        "edgedet": __version__,
        **device,
        "threads": args.threads,
        "source": args.source or "demo clip",
        "frames": len(frames),
        "frame_hw": list(frames[0].bgr.shape[:2]),
        "score": args.score,
        "warmup": args.warmup,
        "models": rows,
        "failures": failures,
    }
    write_json(args.json or "-", figures)  # without --json it follows the table
    if failures:
        raise PartialFailure(f"{len(failures)} failed, {len(rows)} models measured: {'; '.join(failures)}.")
    return 0


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


def _row(model: str, detector: Detector, latency: Latency) -> dict[str, Any]:
    meta = detector.meta
    return {
        "model": model,
        "model_sha256": sha256_of(model),
        "name": meta.spec.name,
        "input_hw": list(meta.spec.input_hw),
        "precision": meta.precision,
        "engine": engine_version(Path(model)),
        "n": latency.runs,
        "fps": latency.fps,
        "ms": latency.percentiles_ms(),
    }


def _print_table(
    device: dict[str, Any], rows: list[dict[str, Any]], args: argparse.Namespace, frames: int, text: TextIO
) -> None:
    print(
        f"{device['device']}, {device['cores']} cores, load {device['load_1min'] or 0:.1f}; "
        f"threads {args.threads}, warm-up {args.warmup}, {frames} frames in memory, score {args.score}",
        file=text,
    )
    for row in rows:
        h, w = row["input_hw"]
        print(
            f"\n{row['model']}: {row['name']}, {h}x{w}, {row['precision']}, {row['engine']}\n"
            f"{row['n']} runs, {row['fps']:.1f} FPS",
            file=text,
        )
        print("stage       " + "".join(f"  p{p:<2} ms  " for p in PERCENTILES).rstrip(), file=text)
        for stage, values in row["ms"].items():
            print(f"{stage:<12}" + "  ".join(f"{value:>7.2f}" for value in values.values()), file=text)
