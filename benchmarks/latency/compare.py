"""``edgedet bench compare A.json B.json``: which rows are faster or slower, and which differ by noise only.

The noise of a ratio comes from both runs themselves: each is cut into blocks of neighbouring rounds, and medians are
taken again and again over blocks drawn at random (block bootstrap; Kuensch 1989), so that what lasts for many rounds,
such as heat or another program, counts as noise. What differs between two runs as a whole is in neither, hence a least
width of the band.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.errors import InputError
from edgedet.files import read_text, write_json

BLOCKS = 10
RESAMPLES = 2000
INTERVAL = (2.5, 97.5)  # per cent
LEAST_RUNS = 5
# Of the ratio. Medians of two runs of the same file minutes apart gave 0.990 to 1.023; but two runs of the whole family
# on an idle virtual machine, whose clock nobody can fix, gave 0.90 to 1.00 for 14 of 15 files and 0.80 for one; later
# 0.98 to 1.14 (docs/benchmarks.md).
LEAST_BAND, LEAST_BAND_FREE_CLOCK = 0.03, 0.10
STAGES = ("network", "end to end")
_SCHEMA = 2
WANTED = "give the file of `edgedet bench --json FILE`"
# entries that must be the same, and what they are called
_ALIKE = {
    "device": "machine", "cpu": "processor", "cores": "number of cores", "source": "pictures",
    "frame_hw": "picture size", "score": "score",
}  # fmt: skip
# of the conditions: told, but no reason to refuse, since this is what one may want to compare
_TOLD = ("governors", "power_mode", "clock_max_mhz")


def compare_files(words: Sequence[str], json_file: str | None) -> int:
    """Run the command: ``words`` are "compare" and the names of two files."""
    if words[0] != "compare" or len(words) != 3:
        raise InputError(f"wanted `edgedet bench compare A.json B.json`; got {' '.join(words)!r} before the options.")
    text = sys.stderr if json_file == "-" else sys.stdout
    before, after = (_read(Path(name)) for name in words[1:])
    result = compare(before, after)
    for name, figures in zip(words[1:], (before, after), strict=True):
        conditions = figures["conditions"]
        print(f"{name}: commit {conditions['commit'] or '-'}, {_load(conditions)}", file=text)
    for note in result["notes"]:
        print(f"note: {note}", file=text)
    print(f"\n{'model':<44}{'stage':<12}{'A ms':>9}{'B ms':>9}{'B / A':>8}{'noise':>16}  verdict", file=text)
    for row in result["rows"]:
        low, high = row["band"]
        print(
            f"{row['row'][-43:]:<44}{row['stage']:<12}{row['a_ms']:>9.2f}{row['b_ms']:>9.2f}{row['ratio']:>8.3f}"
            f"{f'{low:.3f} to {high:.3f}':>16}  {row['verdict']}",
            file=text,
        )
    for name in result["unmatched"]:
        print(f"in one file only: {name}", file=text)
    write_json(json_file, result)
    return 0


def compare(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the ratio of each common row's medians, after / before, its band and the verdict.

    Raises InputError where the runs cannot be compared: another machine, other pictures, or no common row.
    """
    for entry, what in _ALIKE.items():
        if before[entry] != after[entry]:
            raise InputError(
                f"these runs cannot be compared, for the {what} differs: {before[entry]} and {after[entry]}. "
                "Measure both alike."
            )
    has_classes = all("num_classes" in row for row in [*before["models"], *after["models"]])
    names = [[_name(row, has_classes) for row in figures["models"]] for figures in (before, after)]
    ambiguous = {name for group in names for name in group if group.count(name) > 1}
    rows_a, rows_b = (
        {
            f"{name}, {Path(row['model']).name}" if name in ambiguous else name: row
            for name, row in zip(group, figures["models"], strict=True)
        }
        for group, figures in zip(names, (before, after), strict=True)
    )
    common = [name for name in rows_a if name in rows_b]
    if not common:
        raise InputError(
            f"the runs have no row in common: {', '.join(rows_a)} and {', '.join(rows_b)}. A row is a model, its "
            "number of classes, size, precision, format and number of threads."
        )
    least = max(map(least_band, (before["conditions"], after["conditions"])))
    rows = [
        {
            "row": name,
            "stage": stage,
            **compared(rows_a[name]["runs_ms"][stage], rows_b[name]["runs_ms"][stage], least),
        }
        for name in common
        for stage in STAGES
    ]
    notes = [
        f"{entry} was {before['conditions'][entry]}, then {after['conditions'][entry]}"
        for entry in _TOLD
        if before["conditions"][entry] != after["conditions"][entry]
    ]
    notes += [
        f"{name}: {rows_a[name]['engine']}, then {rows_b[name]['engine']}"
        for name in common
        if rows_a[name]["engine"] != rows_b[name]["engine"]
    ]
    notes += [
        f"{name}: {rows_a[name]['macs']} multiply-accumulates, then {rows_b[name]['macs']}"
        for name in common
        if rows_a[name]["macs"] != rows_b[name]["macs"]
    ]
    return {"rows": rows, "notes": notes, "unmatched": sorted(set(rows_a) ^ set(rows_b))}


def least_band(conditions: dict[str, Any]) -> float:
    """Return the least band for a run: wider where its clock was not fixed, or is unknown as on virtual machines."""
    fastest = conditions["clock_max_mhz"]
    is_fixed = fastest is not None and conditions.get("clock_min_mhz") == fastest
    return LEAST_BAND if is_fixed or set(conditions["governors"]) == {"performance"} else LEAST_BAND_FREE_CLOCK


def compared(a_ms: Sequence[float], b_ms: Sequence[float], least: float = LEAST_BAND) -> dict[str, Any]:
    """Return medians, ratio b / a, the band that noise alone explains around 1, and the verdict on b."""
    ratio = float(np.median(b_ms) / np.median(a_ms))
    resampled = np.array(_medians(b_ms, seed=1)) / np.array(_medians(a_ms, seed=0))
    low, high = (float(np.percentile(resampled, q)) / ratio for q in INTERVAL)
    band = [min(low, 1 - least), max(high, 1 + least)]
    if min(len(a_ms), len(b_ms)) < LEAST_RUNS:
        verdict = f"fewer than {LEAST_RUNS} runs say nothing"
    elif ratio < band[0]:
        verdict = "faster"
    elif ratio > band[1]:
        verdict = "slower"
    else:
        verdict = "within noise"
    medians = {"a_ms": float(np.median(a_ms)), "b_ms": float(np.median(b_ms))}
    return {**medians, "ratio": ratio, "band": band, "verdict": verdict}


def _medians(values_ms: Sequence[float], seed: int) -> list[float]:
    blocks = np.array_split(np.asarray(values_ms, dtype=float), min(BLOCKS, len(values_ms)))
    random = np.random.default_rng(seed)
    return [
        float(np.median(np.concatenate([blocks[index] for index in random.integers(0, len(blocks), len(blocks))])))
        for _ in range(RESAMPLES)
    ]


def _name(row: dict[str, Any], has_classes: bool) -> str:
    """Return what a row measured. Files of earlier versions do not tell the number of classes."""
    h, w = row["input_hw"]
    network = (
        f"{row['name'].removeprefix('tf_efficientdet_')} {h}x{w} {row['precision']} {Path(row['model']).suffix[1:]}"
    )
    classes = f", {row['num_classes']} classes" if has_classes else ""
    return f"{network}{classes}, {row['threads']} threads"


def read_json(path: Path) -> Any:
    """Return what a file of ``edgedet bench --json FILE`` holds; raises InputError in one line."""
    try:
        return json.loads(read_text(path, WANTED))
    except (ValueError, RecursionError):
        raise InputError(f"{path} is no JSON; {WANTED}.") from None


def _read(path: Path) -> dict[str, Any]:
    figures = read_json(path)
    if not isinstance(figures, dict) or figures.get("schema") != _SCHEMA or "models" not in figures:
        raise InputError(f"{path} is no result of `edgedet bench` in schema {_SCHEMA}: measure again with --json FILE.")
    return figures


def _load(conditions: dict[str, Any]) -> str:
    others = conditions["others_cores"]
    return "load of others not known" if others is None else f"{others:.2f} cores busy with other programs"
