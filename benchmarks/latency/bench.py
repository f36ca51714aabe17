"""Measure models in turns, one run of each: the order of the steps, and the whole result."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from edgedet import __version__, demo
from edgedet.benchmarks.latency.conditions import record_conditions
from edgedet.benchmarks.latency.device import describe_device
from edgedet.benchmarks.latency.measure import count_rounds, measure
from edgedet.benchmarks.latency.options import BenchOptions
from edgedet.benchmarks.latency.result import BenchResult, ModelResult
from edgedet.benchmarks.latency.rows import Row, add_accuracy, make_result
from edgedet.benchmarks.latency.sensors import open_power_meter, read_settings, take_snapshot
from edgedet.benchmarks.latency.served import ServedDetector
from edgedet.benchmarks.latency.sustain import sustain
from edgedet.benchmarks.models.family_files import check_engine, prepare_file
from edgedet.errors import EdgeDetError, InputError, SourceError
from edgedet.progress import LOG_EVERY_S, TERMINAL_EVERY_S
from edgedet.stream.sources import open_source
from edgedet.types import Frame

FRAMES = 30  # held in memory, so that reading and decoding are not measured
_BAR = "{desc}: {percentage:3.0f}% |{bar}| {remaining} left"


def run_bench(options: BenchOptions) -> BenchResult:
    """Measure, and return the result: its ``failures`` name models and frames that failed, its ``models`` the others.

    Ctrl-C ends it, and what was measured by then is the result. Raises the reason where no model could be measured.
    """
    result = _measure_in_turns(options)
    return result if result.interrupted else _with_extras(options, result)


def _measure_in_turns(options: BenchOptions) -> BenchResult:
    """Return the result without accuracy, profiles and long runs; raises where no model could be measured."""
    frames, failures = _read_frames(options.source)
    rows, errors = _export_rows(options)
    device, fixed, before = describe_device(), read_settings(), take_snapshot()  # before our own load is on it
    counted = _with_progress(count_rounds(options.runs, options.seconds), options.runs, options.seconds)
    with ExitStack() as held:
        opened: dict[str, tuple[Row, ServedDetector]] = {}
        for row in rows:
            try:
                served = held.enter_context(closing(ServedDetector(row.model, row.threads, options.score)))
            except EdgeDetError as error:
                errors.append((row.label, error))
            else:
                opened[row.name] = row, served
        if not opened:
            _raise_all(errors)
        watts: list[float] = []
        counted = _with_power(counted, held.enter_context(open_power_meter()), watts)
        measured = measure({name: served.run for name, (_, served) in opened.items()}, frames, options.warmup, counted)
        models = [make_result(*opened[name], latency) for name, latency in measured.latencies.items()]
    failures += [(f"{label}: {error}" if label else str(error)).rstrip(".") for label, error in errors]
    failures += [f"{name}: {reason}" for name, reason in measured.failures.items()]
    if measured.interrupted:
        if not models:
            raise KeyboardInterrupt
        failures.append(f"interrupted after {measured.rounds} rounds")
    if not models:
        raise InputError(f"no model could be measured: {'; '.join(failures)}.")
    h, w = frames[0].bgr.shape[:2]
    return BenchResult(
        edgedet=__version__,
        device=device,
        conditions=record_conditions(before, take_snapshot(), fixed, sum(watts) / len(watts) if watts else None),
        threads=list(options.threads),
        source=options.source or "demo clip",
        frames=len(frames),
        frame_hw=(h, w),
        score=options.score,
        warmup=options.warmup,
        models=models,
        left_out=list(options.left_out),
        failures=failures,
        interrupted=measured.interrupted,
    )


def _with_extras(options: BenchOptions, result: BenchResult) -> BenchResult:
    """Add accuracy, profiles and long runs, one after the other, so that none disturbs a measurement.

    Ctrl-C ends them; what was measured stays.
    """
    models, failures, interrupted = list(result.models), list(result.failures), False
    try:
        if options.dataset is not None:
            failures += add_accuracy(models, options.dataset, max(options.threads))
        if options.profile:
            _add_profiles(options, models, failures)
        if options.sustain_s is not None:
            _add_long_runs(options, options.sustain_s, models, failures)
    except KeyboardInterrupt:
        interrupted = True
        failures.append("interrupted after the turns")
    return replace(result, models=models, failures=failures, interrupted=interrupted)


def _add_profiles(options: BenchOptions, models: list[ModelResult], failures: list[str]) -> None:
    from edgedet.benchmarks.profile.profile import profile_model

    for index, row in enumerate(models):
        try:
            models[index] = replace(row, profile=profile_model(Path(row.model), row.threads, options.runs))
        except EdgeDetError as error:
            failures.append(f"profile of {row.model}: {error}".rstrip("."))


def _add_long_runs(options: BenchOptions, seconds: float, models: list[ModelResult], failures: list[str]) -> None:
    frames, _ = _read_frames(options.source)
    for index, row in enumerate(models):
        print(f"edgedet: running {row.model} for {seconds:.0f} s", file=sys.stderr, flush=True)
        with closing(ServedDetector(row.model, row.threads, options.score)) as served:
            sustained = sustain(served.run, frames, seconds)
        models[index] = replace(row, sustain=sustained)
        if sustained.failure is not None:
            failures.append(f"{row.model}: {sustained.failure}")
        if sustained.interrupted:
            raise KeyboardInterrupt


def _export_rows(options: BenchOptions) -> tuple[list[Row], list[tuple[str, EdgeDetError]]]:
    """Export what is missing; return the rows, and what failed with its name."""
    rows: list[Row] = []
    errors: list[tuple[str, EdgeDetError]] = []
    absent = set()
    for engine in dict.fromkeys(member.engine for member in options.family):  # once for all sizes and precisions
        try:
            check_engine(engine)
        except EdgeDetError as error:
            errors.append(("", error))
            absent.add(engine)
    for member in options.family:
        if member.engine in absent:
            continue
        try:
            path = str(prepare_file(member, max(options.threads)))
        except EdgeDetError as error:
            errors.append((member.label, error))
            continue
        rows += [Row(path, count, member) for count in options.threads]
    rows += [Row(model, count) for model in dict.fromkeys(options.models) for count in options.threads]
    return rows, errors


def _raise_all(errors: list[tuple[str, EdgeDetError]]) -> None:
    """Raise the one error as it is, several as one line."""
    if len(errors) == 1:
        raise errors[0][1]
    raise InputError("; ".join(dict.fromkeys(str(error).rstrip(".") for _, error in errors)) + ".")


def _read_frames(source: str | None) -> tuple[list[Frame], list[str]]:
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
    """Read the board's power after each round, while the board is still at work."""
    for index in counted:
        yield index
        if (watt := power_w()) is not None:
            watts.append(watt)


def _with_progress(counted: Iterator[int], runs: int, seconds: float) -> Iterator[int]:
    """Show a bar with the time left; it is renewed between rounds, so that it costs no run.

    Boards that have edgedet without the extra "bench" measure without a bar.
    """
    if find_spec("tqdm") is None:
        yield from counted
        return
    from tqdm import tqdm

    started = time.monotonic()
    every_s = TERMINAL_EVERY_S if sys.stderr.isatty() else LOG_EVERY_S
    with tqdm(
        total=1.0, desc="measuring", bar_format=_BAR, file=sys.stderr, leave=False, mininterval=every_s, delay=every_s
    ) as bar:
        for index in counted:
            share_of_time = (time.monotonic() - started) / seconds if seconds else 1.0
            bar.update(min(index / runs, share_of_time, 1.0) - bar.n)
            yield index
