"""A board's own measurement in place of published figures: ``edgedet bench --json FILE`` -> timings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedet.benchmarks.latency.result import HINT, read_json
from edgedet.benchmarks.planner.boards import find_accuracy, find_board
from edgedet.benchmarks.planner.costs import shorten_variant
from edgedet.benchmarks.planner.estimate import LITE_TO_D_ERROR, Estimate, Timing, format_percent, make_estimate
from edgedet.benchmarks.planner.fit import BASE, find_machine, read_fits
from edgedet.benchmarks.planner.memory import estimate_memory_mb
from edgedet.benchmarks.planner.model import Point, compute_left_out_errors, fit_constants
from edgedet.engines.table import PRECISIONS, PUBLIC_ENGINES
from edgedet.errors import InputError

# How a row's engine begins -> the planner's name of it.
_ENGINES = {package.module: engine.name for engine in PUBLIC_ENGINES for package in engine.packages}
# A board whose constants are the proportions to start from, by engine and kind of machine.
_REFERENCES = {"trt": BASE, "x86_64": "n100", "aarch64": "raspberry-pi-5"}
# As ln: how far one or two measured models were off for the others at worst, in rounded figures (docs/planning.md has
# the measured ones). From three models on, each is left out in turn.
FEW_MODELS_ERROR = {1: 0.25, 2: 0.15}


@dataclass(frozen=True)
class MeasuredRow:
    """One row of a benchmark: ``ms`` is the network's p50, ``p90_ms`` its p90."""

    variant: str
    side: int
    precision: str
    engine: str
    threads: int
    ms: float
    p90_ms: float
    runs: int


@dataclass(frozen=True)
class OwnBoard:
    """A machine and its rows of a benchmark.

    device:  its name there.
    machine: "x86_64" or "aarch64".
    left_out: rows that cannot be planned with, and why.
    """

    device: str
    machine: str
    rows: tuple[MeasuredRow, ...]
    left_out: tuple[str, ...]

    def groups(self) -> dict[tuple[str, str], list[MeasuredRow]]:
        """Return engine and precision -> rows."""
        groups: dict[tuple[str, str], list[MeasuredRow]] = {}
        for row in self.rows:
            groups.setdefault((row.engine, row.precision), []).append(row)
        return groups


def read_own_board(path: Path, threads: int | None = None) -> OwnBoard:
    """Read a benchmark's JSON; raises InputError in one line where it is none or holds nothing to plan with.

    threads: which rows to take, where several numbers of threads were measured (default: the most).
    """
    figures = read_json(path)
    models = figures.get("models") if isinstance(figures, dict) else None
    if not isinstance(models, list) or not models:
        raise InputError(f'{path} has no list of "models"; {HINT}.')
    rows, left_out = [], []
    for number, row in enumerate(models):
        try:
            rows.append(_read_row(row))
        except _LeftOut as reason:
            left_out.append(str(reason))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"{path}: models[{number}] is no row of `edgedet bench` ({type(error).__name__}: {error}); it needs "
                "name, input_hw, precision, engine, threads and ms.network.p50."
            ) from None
    known = sorted({row.threads for row in rows})
    chosen = known[-1] if threads is None and known else threads
    rows = [row for row in rows if row.threads == chosen]
    if not rows:
        reasons = "; ".join(left_out) or f"it was measured with {', '.join(map(str, known))} threads, not {threads}"
        raise InputError(f"{path} holds nothing to plan with: {reasons}.")
    return OwnBoard(
        str(figures.get("device") or "this machine"), str(figures.get("machine") or ""), tuple(rows), tuple(left_out)
    )


class _LeftOut(Exception):
    """A row that is in order, but that nothing can be planned with."""


def _read_row(row: dict[str, Any]) -> MeasuredRow:
    name, (h, w) = str(row["name"]), row["input_hw"]
    engine = next((key for beginning, key in _ENGINES.items() if str(row["engine"]).startswith(beginning)), None)
    threads = row["threads"]
    times = row["ms"]["network"]
    measured = MeasuredRow(
        name,
        int(h),
        str(row["precision"]),
        engine or "",
        int(threads),
        float(times["p50"]),
        float(times.get("p90", times["p50"])),
        int(row.get("n", 0)),
    )
    if not 0 < measured.ms < float("inf"):
        raise ValueError(f"p50 is {measured.ms}")
    if engine is None:
        raise _LeftOut(f"{name} ran on {row['engine']}, which the planner does not know")
    if measured.precision not in PRECISIONS:
        raise _LeftOut(f"{name} is {measured.precision}")
    if h != w:
        raise _LeftOut(f"{name} is {h}x{w}, and the planner knows squares only")
    try:
        return replace(measured, variant=shorten_variant(name))
    except InputError as error:
        raise _LeftOut(str(error)) from None


def timing_from(own: OwnBoard, engine: str, precision: str) -> Timing:
    """Fit the constants on the machine's own figures; proportions start from a published board of its kind."""
    rows = own.groups()[engine, precision]
    kind = "trt" if engine == "trt" else own.machine
    reference = find_board(_REFERENCES.get(kind, _REFERENCES["x86_64"]))
    published = "fp16" if engine == "trt" and precision == "int8" else precision
    prior = read_fits()[reference.name, published].constants
    peaks = find_machine(reference)
    machine = replace(peaks, engine=engine, gmacs={**peaks.gmacs, precision: peaks.gmacs[published]})
    points = [Point(machine, row.variant, row.side, precision, row.threads, row.ms) for row in rows]
    models = list(dict.fromkeys(row.variant for row in rows))
    if len(models) in FEW_MODELS_ERROR:
        error = FEW_MODELS_ERROR[len(models)]
        known = f"such predictions were off by up to {format_percent(error)} where they were tried"
    else:
        error = max(abs(off) for _, off in compute_left_out_errors(points, prior))
        known = f"worst error of a model left out {format_percent(error)}"
    why = f"constants of this board from {', '.join(models)} measured on it; {known}"
    return Timing(fit_constants(points, prior), machine, precision, "measured constants", why, error)


def estimate_from(own: OwnBoard, timing: Timing, variant: str, side: int) -> Estimate:
    """Return the estimate; what was measured itself is given as it was measured, with its p90 as the slow end."""
    engine = timing.machine.engine
    rows = own.groups()[engine, timing.precision]
    for row in rows:
        if (row.variant, row.side) == (variant, side):
            return Estimate(
                variant,
                side,
                timing.precision,
                engine,
                row.ms,
                row.ms,
                max(row.ms, row.p90_ms),
                "measured",
                f"measured: p50, and p90 as the slow end, of {row.runs} runs",
                estimate_memory_mb(variant, side, timing.precision, engine),
                find_accuracy(variant, side, timing.precision),
            )
    if not any(row.variant.startswith("lite") == variant.startswith("lite") for row in rows):
        timing = replace(
            timing,
            error=timing.error + LITE_TO_D_ERROR,
            why=f"{timing.why}; none of them is a {'Lite' if variant.startswith('lite') else 'D'} model: wider",
        )
    return make_estimate(timing, variant, side, timing.precision, rows[0].threads)
