"""Export, judge and evaluate every candidate of a sweep, here or in workers; then measure or estimate their latency."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedet.benchmarks.cluster.shards import ClusterOptions, Lost, ray_session, run_in_shards
from edgedet.benchmarks.latency.benchmark import benchmark
from edgedet.benchmarks.planner.boards import find_board
from edgedet.benchmarks.planner.costs import shorten_variant
from edgedet.benchmarks.planner.estimate import estimate
from edgedet.benchmarks.sweep.cells import (
    DONE,
    FAILED,
    REFUSED,
    Cell,
    CellResult,
    Ledger,
    cell_key,
    describe_unexpected,
)
from edgedet.benchmarks.sweep.trials import Training, Trial, run_trials
from edgedet.child_process import Child
from edgedet.engines.base import default_threads
from edgedet.errors import EdgeDetError, VerificationError
from edgedet.files import sha256_of
from edgedet.progress import Say, say_nothing

if TYPE_CHECKING:
    from edgedet.judge.labels import Dataset

HERE = "this machine"


@dataclass(frozen=True)
class SweepRequest:
    """What is swept, and how it is judged.

    data, images: labelled pictures, as `edgedet eval` takes them; limit: the first ones only.
    calib, frames: frames for INT8, as `edgedet export` takes them.
    boards:    names of the planner's boards; () measures on this machine.
    out:       folder of the files and the ledger.
    cluster:   workers that do the candidates; None: one after the other here.
    training:  how the cells' weights are trained first; None: they are taken as they are.
    """

    cells: tuple[Cell, ...]
    data: Path
    images: Path | None
    out: Path
    calib: str | None = None
    frames: int = 64
    limit: int | None = None
    boards: tuple[str, ...] = ()
    threads: int = 1
    cluster: ClusterOptions | None = None
    training: Training | None = None


@dataclass(frozen=True)
class Speed:
    """Milliseconds of one candidate on one board: middle and band. basis: "measured", or the planner's word."""

    board: str
    ms: float
    low_ms: float
    high_ms: float
    basis: str


@dataclass(frozen=True)
class SweepRow:
    """One candidate with its accuracy and its speed on each board."""

    result: CellResult
    speeds: tuple[Speed, ...] = ()


def run_sweep(request: SweepRequest, say: Say) -> list[SweepRow]:
    """Return a row for each candidate, in their order; finished ones are taken from the folder's ledger.

    Candidates that fail or are refused are rows, too. Raises InputError for an unknown board.
    """
    for board in request.boards:
        find_board(board)
    request.out.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(request.out)
    cells, failed = (list(request.cells), {}) if request.training is None else _train_cells(request, say)
    keys = {
        cell: cell_key(cell, request.data, request.images, request.calib, request.frames, request.limit)
        for cell in cells
        if cell not in failed
    }
    # Two files with the same bytes are one candidate
    missing = {keys[cell]: cell for cell in reversed(cells) if cell in keys and ledger.get(keys[cell]) is None}
    done = sum(key not in missing for key in keys.values())
    say(f"{len(cells)} candidates, {done} done earlier")
    results = _run_cells(request, list(reversed(missing.items())), ledger, say)
    outcomes = []
    for cell in cells:
        if cell in failed:
            outcomes.append(CellResult("", cell.name, FAILED, failed[cell], precision=cell.precision))
            continue
        result = results.get(keys[cell]) or ledger.get(keys[cell])
        outcomes.append(replace(result or CellResult(keys[cell], "", FAILED, "not run"), name=cell.name))
    return _add_speeds(request, outcomes, say)


def _train_cells(request: SweepRequest, say: Say) -> tuple[list[Cell], dict[Cell, str]]:
    """Train what the cells begin with; return the cells with their own checkpoints, and why some have none."""
    assert request.training is not None
    threads = request.threads or default_threads()
    trial_of = {
        cell: Trial(cell.weights, cell.input_hw, cell.classes, request.training, request.out.absolute(), threads)
        for cell in request.cells
    }
    trials = list(dict.fromkeys(trial_of.values()))  # precisions share one
    trained = dict(zip(trials, run_trials(trials, request.cluster, say), strict=True))
    cells, failed = [], {}
    for cell, trial in trial_of.items():
        result = trained[trial]
        cells.append(replace(cell, weights=result.best or cell.weights, label=f"{cell.label} trained"))
        if not result.best:
            failed[cells[-1]] = f"training: {result.failure}"
    return cells, failed


def _run_cells(
    request: SweepRequest, cells: Sequence[tuple[str, Cell]], ledger: Ledger, say: Say
) -> dict[str, CellResult]:
    results: dict[str, CellResult] = {}
    start_s = time.monotonic()

    def done(result: CellResult) -> None:
        ledger.add(result)
        results[result.key] = result
        left_s = (time.monotonic() - start_s) / len(results) * (len(cells) - len(results))
        outcome = f"AP {result.ap:.3f}" if result.ap is not None else f"{result.status}: {result.reason}"
        left = f"; about {left_s / 60:.0f} min left" if left_s >= 90 else ""
        say(f"{len(results)} of {len(cells)}: {result.name}, {outcome}{left}")

    if request.cluster is None:
        for key, cell in cells:
            with Child(_run_cell_in_child, request, key, cell) as child:
                try:
                    result = child.first()
                except EdgeDetError as error:  # the process was killed
                    result = CellResult(key, cell.name, FAILED, str(error).rstrip("."))
            done(result)
    elif cells:
        with ray_session(request.cluster) as ray:
            run_in_shards(
                ray,
                _run_cells_in_worker,
                replace(request, out=request.out.absolute()),
                cells,
                request.cluster,
                shard_size=1,
                title="sweep",
                each=lambda index, result: done(_unless_lost(cells[index], result)),
            )
    return results


def _unless_lost(item: tuple[str, Cell], result: CellResult | Lost) -> CellResult:
    return CellResult(item[0], item[1].name, FAILED, result.reason) if isinstance(result, Lost) else result


def _run_cell_in_child(request: SweepRequest, key: str, cell: Cell) -> tuple[CellResult, None]:
    return run_cell(request, key, cell), None


def _run_cells_in_worker(request: SweepRequest, cells: Sequence[tuple[str, Cell]]) -> list[CellResult]:
    return [run_cell(request, key, cell) for key, cell in cells]


def run_cell(request: SweepRequest, key: str, cell: Cell) -> CellResult:
    """Export one candidate into a folder of its own and evaluate the file; errors are results, too."""
    from edgedet.judge.labels import read_dataset

    start_s = time.monotonic()
    try:
        dataset = read_dataset(request.data, request.images)
        dataset = replace(dataset, images=dataset.images[: request.limit])
        result = _export_and_evaluate(request, key, cell, dataset)
    except VerificationError as error:
        result = CellResult(key, cell.name, REFUSED, str(error).rstrip("."), precision=cell.precision)
    except EdgeDetError as error:
        result = CellResult(key, cell.name, FAILED, str(error).rstrip("."), precision=cell.precision)
    except Exception as error:  # a mistake of edgedet's or of a library's; the other candidates are no worse for it
        result = CellResult(key, cell.name, FAILED, describe_unexpected(error), precision=cell.precision)
    return replace(result, seconds=round(time.monotonic() - start_s, 1))


def _export_and_evaluate(request: SweepRequest, key: str, cell: Cell, dataset: Dataset) -> CellResult:
    from edgedet.export.checkpoints.open_weights import WeightsChoice
    from edgedet.export.export_model import export_model
    from edgedet.export.int8.options import Int8Options
    from edgedet.judge.evaluate import evaluate

    folder = request.out / key[:16]
    choice = WeightsChoice(cell.weights, classes=cell.classes, input_hw=cell.input_hw)
    int8 = None
    if cell.precision == "int8":
        int8 = Int8Options(
            calib=request.calib,
            frames=request.frames,
            labels=dataset,
            threads=request.threads,
            is_demo=cell.weights == "demo",
        )
    exported = export_model(choice, folder, tflite=cell.precision == "fp32", int8=int8, threads=request.threads)
    if exported.int8 is not None:
        file = next((Path(item.path) for item in exported.int8 if item.path.endswith(".tflite")), None)
        if file is None:
            refused = next(item for item in exported.refused or () if item.path.endswith(".tflite"))
            return CellResult(key, cell.name, REFUSED, str(refused.gate["reason"]), precision=cell.precision)
    else:
        assert exported.tflite is not None
        file = Path(exported.tflite.path)
    evaluation = evaluate(str(file), dataset, request.threads, say=say_nothing)
    return CellResult(
        key=key,
        name=cell.name,
        status=DONE,
        file=str(file.relative_to(request.out)),
        sha256=sha256_of(file),
        variant=evaluation.meta.spec.name,
        input_hw=evaluation.meta.spec.input_hw,
        precision=cell.precision,
        ap=evaluation.accuracy.figures["AP"],
        images=evaluation.accuracy.images,
    )


def _add_speeds(request: SweepRequest, results: Sequence[CellResult], say: Say) -> list[SweepRow]:
    done = [result for result in results if result.file is not None]
    if not request.boards and done:
        say(f"measuring {len(done)} files in turns")
        files = [str(request.out / str(result.file)) for result in done]
        measured = benchmark(files, threads=request.threads or default_threads(), runs=20, seconds=0.0)
        ms = {row.model: row.ms["end to end"] for row in measured.models}
        return [
            SweepRow(result, _measured(ms.get(str(request.out / str(result.file)))) if result.file else ())
            for result in results
        ]
    return [SweepRow(result, _estimated(request.boards, result)) for result in results]


def _measured(ms: dict[str, float] | None) -> tuple[Speed, ...]:
    return () if ms is None else (Speed(HERE, ms["p50"], ms["p50"], ms["p90"], "measured"),)


def _estimated(boards: Sequence[str], result: CellResult) -> tuple[Speed, ...]:
    """Return the planner's estimate for each board that it can estimate; the planner knows square inputs only.

    Another shape counts as the square with as many pixels.
    """
    if result.variant is None or result.input_hw is None:
        return ()
    height, width = result.input_hw
    side = round((height * width) ** 0.5 / 128) * 128
    scale = height * width / side**2
    speeds = []
    for name in boards:
        board = find_board(name)
        # A float file runs in FP16 where the board has no FP32: TensorRT's.
        for precision in (result.precision, *(["fp16"] if result.precision == "fp32" else [])):
            try:
                row = estimate(board, shorten_variant(result.variant), side, precision, board.cores)
            except EdgeDetError:  # nothing is known of this precision on that board
                continue
            basis = row.basis if precision == result.precision else f"{row.basis}, as {precision}"
            speeds.append(Speed(name, row.ms * scale, row.low_ms * scale, row.high_ms * scale, basis))
            break
    return tuple(speeds)


def recommend(rows: Sequence[SweepRow], board: str, budget_ms: float | None) -> SweepRow | None:
    """Return the most accurate candidate whose slow end is within the budget; equal AP: the faster one.

    None where nothing fits.
    """
    fitting = [
        (row, speed)
        for row in rows
        for speed in row.speeds
        if speed.board == board and row.result.ap is not None and (budget_ms is None or speed.high_ms <= budget_ms)
    ]
    best = max(fitting, key=lambda item: (item[0].result.ap, -item[1].ms), default=None)
    return None if best is None else best[0]
