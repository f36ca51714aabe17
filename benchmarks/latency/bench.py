"""Measure models in turns, one run of each: the order of the steps, and the result as ``--json`` writes it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import islice
from typing import Any

from edgedet import __version__, demo
from edgedet.benchmarks.latency.conditions import conditions, power_meter, settings, snapshot
from edgedet.benchmarks.latency.device import device_figures
from edgedet.benchmarks.latency.measure import measure, rounds
from edgedet.benchmarks.latency.options import BenchOptions
from edgedet.benchmarks.latency.prepared import check_engine, prepared
from edgedet.benchmarks.latency.rows import Row, add_accuracy, row_figures
from edgedet.benchmarks.latency.served import ServedDetector
from edgedet.benchmarks.latency.sustain import sustain
from edgedet.errors import EdgeDetError, InputError, SourceError
from edgedet.stream.sources import open_source
from edgedet.types import Frame

SCHEMA = 2  # of the JSON; docs/benchmarking.md says what each entry means
FRAMES = 30  # held in memory, so that reading and decoding are not measured
_TERMINAL_EVERY_S, _LOG_EVERY_S = 0.25, 10.0


def run_bench(options: BenchOptions) -> dict[str, Any]:
    """Measure, and return the result: its "failures" name models and frames that failed, its "models" the others.

    Raises the reason where no model could be measured.
    """
    result = _measured(options)
    _extras(options, result)
    return result


def _measured(options: BenchOptions) -> dict[str, Any]:
    """Return the whole result of the turns, without what ``_extras`` adds; raises where no model could be measured."""
    frames, failures = _frames(options.source)
    rows, errors = _rows(options)
    device, fixed, before = device_figures(), settings(), snapshot()  # before our own load is on it
    counted = _with_progress(rounds(options.runs, options.seconds), options.runs, options.seconds)
    with ExitStack() as held:
        served: dict[str, tuple[Row, ServedDetector]] = {}
        for row in rows:
            try:
                opened = held.enter_context(closing(ServedDetector(row.model, row.threads, options.score)))
            except EdgeDetError as error:
                errors.append((row.label, error))
            else:
                served[row.name] = row, opened
        if not served:
            _raise_all(errors)
        watts: list[float] = []
        counted = _with_power(counted, held.enter_context(power_meter()), watts)
        measured = measure({name: one.run for name, (_, one) in served.items()}, frames, options.warmup, counted)
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
        "threads": list(options.threads),
        "source": options.source or "demo clip",
        "frames": len(frames),
        "frame_hw": list(frames[0].bgr.shape[:2]),
        "score": options.score,
        "warmup": options.warmup,
        "models": figures,
        "left_out": list(options.left_out),
        "failures": failures,
        "interrupted": measured.interrupted,
    }


def _extras(options: BenchOptions, result: dict[str, Any]) -> None:
    """Add accuracy, profiles and long runs to the entries, one after the other, so that none disturbs a measurement.

    Ctrl-C ends them; what was measured stays.
    """
    if result["interrupted"]:
        return
    failures = result["failures"]
    try:
        if options.dataset is not None:
            failures += add_accuracy(result["models"], options.dataset, max(options.threads))
        if options.profile:
            from edgedet.benchmarks.profile.profile import add_profiles

            failures += add_profiles(result, options.runs)
        if options.sustain_s is not None:
            _sustain(options, options.sustain_s, result)
    except KeyboardInterrupt:
        result["interrupted"] = True
        failures.append("interrupted after the turns")


def _sustain(options: BenchOptions, seconds: float, result: dict[str, Any]) -> None:
    frames, _ = _frames(options.source)
    for entry in result["models"]:
        print(f"edgedet: running {entry['model']} for {seconds:.0f} s", file=sys.stderr, flush=True)
        with closing(ServedDetector(entry["model"], entry["threads"], options.score)) as served:
            found = sustain(served.run, frames, seconds)
        entry["sustain"] = {"kept": found.kept, "windows": [asdict(window) for window in found.windows]}
        if found.failure is not None:
            result["failures"].append(f"{entry['model']}: {found.failure}")
        if found.interrupted:
            raise KeyboardInterrupt


def _rows(options: BenchOptions) -> tuple[list[Row], list[tuple[str, EdgeDetError]]]:
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
    rows += [Row(model, count) for model in dict.fromkeys(options.models) for count in options.threads]
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
