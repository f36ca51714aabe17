"""Find the fastest TensorRT engine of a model whose detections agree with the ONNX file's.

Each recipe is built, run on frames, judged against the ONNX file as onnxruntime runs it, and timed.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from ..engines.base import Engine
from ..engines.tensorrt.board import Board
from ..engines.tensorrt.build import BuildOptions, Recipe
from ..engines.tensorrt.cuda import open_cuda
from ..engines.tensorrt.engine import TrtEngine
from ..engines.tensorrt.engine_file import add_to_report, build_engine, read_engine
from ..errors import EdgeDetError, UnsupportedError, VerificationError
from ..judge.gate.verdict import PASSED, UNSURE
from ..progress import Say
from ..types import ModelInput
from .engine_reference import Reference, Trial

NOT_BUILT = "NOT BUILT"
RUNS, WARMUP = 50, 10  # of the network alone, a recipe


def measure(engine: Engine, frames: Sequence[ModelInput]) -> List[float]:
    """Return milliseconds of RUNS runs, after WARMUP that do not count."""
    times_ms = []
    for index in range(WARMUP + RUNS):
        started = time.perf_counter()
        engine.infer(frames[index % len(frames)].pixels)
        times_ms.append((time.perf_counter() - started) * 1e3)
    return times_ms[WARMUP:]


def build_best(
    trt: Any,
    board: Board,
    tried: Sequence[Recipe],
    options: BuildOptions,
    reference: Reference,
    out: Path,
    force: bool,
    say: Say,
) -> List[Trial]:
    """Build every recipe, keep the fastest engine that passed at ``out``, and return all trials.

    force: what could not be judged may be kept, too.
    Raises VerificationError with all reasons where none passed; then an earlier file at ``out`` stays as it is.
    """
    trials: List[Trial] = []
    kept: Optional[Tuple[Trial, Path]] = None
    paths: List[Path] = []
    try:
        for recipe in tried:
            path = out.with_name(f".{out.stem}-{os.getpid()}-{len(trials)}{out.suffix}")
            paths.append(path)
            trial = _try(trt, board, recipe, options, reference, path)
            trials.append(trial)
            say(line_of(trial))
            usable = trial.verdict == PASSED or (force and trial.verdict == UNSURE)
            if usable and (kept is None or _p50(trial) < _p50(kept[0])):
                kept = (trial, path)
        if kept is None:
            raise _none_passed(trials)
        trials = [replace(trial, kept=trial is kept[0]) for trial in trials]
        meta, plan = read_engine(kept[1])
        add_to_report(out, meta, plan, {"trials": [asdict(trial) for trial in trials], "judged_by": reference.name})
    finally:
        for path in paths:
            if path.exists():
                path.unlink()
    return trials


def _p50(trial: Trial) -> float:
    return float("inf") if trial.p50_ms is None else trial.p50_ms


def _try(trt: Any, board: Board, recipe: Recipe, options: BuildOptions, reference: Reference, path: Path) -> Trial:
    try:
        _, built = build_engine(trt, board, recipe, options, path, {})
        with closing(opened(trt, path)) as engine:
            trial = reference.judge(engine)
            times_ms = measure(engine, reference.frames)
    except EdgeDetError as error:  # no kernel, no memory, a file or table that does not fit: others may go
        return Trial(recipe.name, NOT_BUILT, str(error))
    p50, p90 = (float(np.percentile(times_ms, share)) for share in (50, 90))
    return replace(trial, recipe=recipe.name, p50_ms=p50, p90_ms=p90, build_s=built.seconds, bytes=path.stat().st_size)


def opened(trt: Any, path: Path, **options: Any) -> TrtEngine:
    """Load an engine that was built here just now; ``options`` go to TrtEngine."""
    meta, plan = read_engine(path)
    cuda = open_cuda()
    try:
        return TrtEngine(trt, cuda, meta, plan, **options)
    except EdgeDetError:
        cuda.close()
        raise


def _none_passed(trials: Sequence[Trial]) -> EdgeDetError:
    built = [trial for trial in trials if trial.verdict != NOT_BUILT]
    if not built:
        return UnsupportedError("; ".join(dict.fromkeys(trial.reason for trial in trials)))
    reasons = "; ".join(f"{trial.recipe}: {trial.verdict}, {trial.reason.rstrip('.')}" for trial in built)
    unsure = any(trial.verdict == UNSURE for trial in built)
    hint = " Give frames of the scene (--source), a lower --score, or --force to keep one unjudged." if unsure else ""
    return VerificationError(f"no engine was kept. {reasons}.{hint}")


def line_of(trial: Trial) -> str:
    """Return a trial as a row of the table."""
    shown = f"{trial.recipe:<27}"
    p50 = "-" if trial.p50_ms is None else f"{trial.p50_ms:.2f}"
    share = "-" if trial.kept_ap is None else f"{trial.kept_ap:.4f}"
    reason = f"  {trial.reason}" if trial.reason else ""
    return f"{shown}{p50:>8}  {share:>7}  {trial.verdict}{reason}"


HEADER = f"{'recipe':<27}{'p50 ms':>8}  {'AP kept':>7}  verdict"
