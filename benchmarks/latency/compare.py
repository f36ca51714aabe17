"""``edgedet bench compare A.json B.json``: which rows are faster or slower, and which differ by noise only.

The noise of a ratio comes from both runs themselves: each is cut into blocks of neighbouring rounds, and medians are
taken again and again over blocks drawn at random (block bootstrap; Kuensch 1989), so that what lasts for many rounds,
such as heat or another program, counts as noise. What differs between two runs as a whole is in neither, hence a least
width of the band.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from edgedet.benchmarks.latency.conditions import Conditions
from edgedet.benchmarks.latency.result import BenchResult, ModelResult, read_result
from edgedet.benchmarks.latency.sensors import Settings
from edgedet.errors import InputError

BLOCKS = 10
RESAMPLES = 2000
INTERVAL = (2.5, 97.5)  # per cent
LEAST_RUNS = 5
# Of the ratio. Medians of two runs of the same file minutes apart gave 0.990 to 1.023; but two runs of the whole family
# on an idle virtual machine, whose clock nobody can fix, gave 0.90 to 1.00 for 14 of 15 files and 0.80 for one; later
# 0.98 to 1.14 (docs/benchmarks.md).
LEAST_BAND, LEAST_BAND_FREE_CLOCK = 0.03, 0.10
STAGES = ("network", "end to end")


@dataclass(frozen=True)
class RowComparison:
    """Medians of one row and stage in both runs.

    ratio: b / a. band: what noise alone explains around 1.
    """

    row: str
    stage: str
    a_ms: float
    b_ms: float
    ratio: float
    band: tuple[float, float]
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """All common rows of two runs; ``notes`` on what else differs; names of rows that are in one run only."""

    rows: list[RowComparison]
    notes: list[str]
    unmatched: list[str]


def compare_files(before: Path, after: Path, text: TextIO) -> Comparison:
    """Compare two files of ``edgedet bench --json`` and print the table; raises InputError as ``compare`` does."""
    results = read_result(before), read_result(after)
    comparison = compare(*results)
    for path, result in zip((before, after), results):
        print(f"{path}: commit {result.conditions.commit or '-'}, {_describe_load(result.conditions)}", file=text)
    for note in comparison.notes:
        print(f"note: {note}", file=text)
    print(f"\n{'model':<52}{'stage':<12}{'A ms':>9}{'B ms':>9}{'B / A':>8}{'noise':>16}  verdict", file=text)
    for row in comparison.rows:
        low, high = row.band
        print(
            f"{row.row[-51:]:<52}{row.stage:<12}{row.a_ms:>9.2f}{row.b_ms:>9.2f}{row.ratio:>8.3f}"
            f"{f'{low:.3f} to {high:.3f}':>16}  {row.verdict}",
            file=text,
        )
    for name in comparison.unmatched:
        print(f"in one file only: {name}", file=text)
    return comparison


def compare(before: BenchResult, after: BenchResult) -> Comparison:
    """Compare the medians of each row that both runs have.

    Raises InputError where the runs cannot be compared: another machine, other pictures, or no common row.
    """
    for condition, a, b in (
        ("machine", before.device.device, after.device.device),
        ("processor", before.device.cpu, after.device.cpu),
        ("number of cores", before.device.cores, after.device.cores),
        ("source of pictures", before.source, after.source),
        ("picture size", before.frame_hw, after.frame_hw),
        ("score", before.score, after.score),
    ):
        if a != b:
            raise InputError(
                f"these runs cannot be compared, for the {condition} differs: {a} and {b}. Measure both alike."
            )
    has_classes = all(row.num_classes is not None for row in [*before.models, *after.models])
    names = [[_name(row, has_classes) for row in result.models] for result in (before, after)]
    ambiguous = {name for group in names for name in group if group.count(name) > 1}
    rows_a, rows_b = (
        {
            f"{name}, {Path(row.model).name}" if name in ambiguous else name: row
            for name, row in zip(group, result.models)
        }
        for group, result in zip(names, (before, after))
    )
    common = [name for name in rows_a if name in rows_b]
    if not common:
        raise InputError(
            f"the runs have no row in common: {', '.join(rows_a)} and {', '.join(rows_b)}. A row is a model, its "
            "number of classes, size, precision, format and number of threads."
        )
    least = max(map(choose_least_band, (before.conditions, after.conditions)))
    rows = [
        compare_medians(rows_a[name].runs_ms[stage], rows_b[name].runs_ms[stage], least, name, stage)
        for name in common
        for stage in STAGES
    ]
    # These are told, but are no reason to refuse: they may be what somebody wants to compare.
    notes = [
        f"{setting} was {a}, then {b}"
        for setting, a, b in (
            ("governors", before.conditions.governors, after.conditions.governors),
            ("power_mode", before.conditions.power_mode, after.conditions.power_mode),
            ("clock_max_mhz", before.conditions.clock_max_mhz, after.conditions.clock_max_mhz),
        )
        if a != b
    ]
    for name in common:
        row_a, row_b = rows_a[name], rows_b[name]
        if row_a.engine != row_b.engine:
            notes.append(f"{name}: {row_a.engine}, then {row_b.engine}")
        if row_a.macs != row_b.macs:
            notes.append(f"{name}: {row_a.macs} multiply-accumulates, then {row_b.macs}")
    return Comparison(rows, notes, sorted(set(rows_a) ^ set(rows_b)))


def choose_least_band(settings: Settings) -> float:
    """Return the least band for a run: wider where its clock was not fixed, or is unknown as on virtual machines."""
    is_steady = settings.is_clock_fixed or set(settings.governors) == {"performance"}
    return LEAST_BAND if is_steady else LEAST_BAND_FREE_CLOCK


def compare_medians(
    a_ms: Sequence[float], b_ms: Sequence[float], least: float = LEAST_BAND, row: str = "", stage: str = ""
) -> RowComparison:
    """Return medians, ratio b / a, the band that noise alone explains around 1, and the verdict on b."""
    ratio = float(np.median(b_ms) / np.median(a_ms))
    resampled = np.array(_resample_medians(b_ms, seed=1)) / np.array(_resample_medians(a_ms, seed=0))
    low, high = (float(np.percentile(resampled, q)) / ratio for q in INTERVAL)
    band = (min(low, 1 - least), max(high, 1 + least))
    if min(len(a_ms), len(b_ms)) < LEAST_RUNS:
        verdict = f"fewer than {LEAST_RUNS} runs say nothing"
    elif ratio < band[0]:
        verdict = "faster"
    elif ratio > band[1]:
        verdict = "slower"
    else:
        verdict = "within noise"
    return RowComparison(row, stage, float(np.median(a_ms)), float(np.median(b_ms)), ratio, band, verdict)


def _resample_medians(values_ms: Sequence[float], seed: int) -> list[float]:
    blocks = np.array_split(np.asarray(values_ms, dtype=float), min(BLOCKS, len(values_ms)))
    random = np.random.default_rng(seed)
    return [
        float(np.median(np.concatenate([blocks[index] for index in random.integers(0, len(blocks), len(blocks))])))
        for _ in range(RESAMPLES)
    ]


def _name(row: ModelResult, has_classes: bool) -> str:
    """Return what a row measured. Results of earlier versions do not tell the number of classes."""
    h, w = row.input_hw
    network = f"{row.name.replace('tf_efficientdet_', '')} {h}x{w} {row.precision} {Path(row.model).suffix[1:]}"
    classes = f", {row.num_classes} class{'' if row.num_classes == 1 else 'es'}" if has_classes else ""
    return f"{network}{classes}, {row.threads} threads"


def _describe_load(conditions: Conditions) -> str:
    others = conditions.others_cores
    return "load of others not known" if others is None else f"{others:.2f} cores busy with other programs"
