"""The result of ``edgedet bench``, and the JSON that it is written as (docs/benchmarking.md has its entries).

result = result_from_json(json.loads(text))
[row.ms["network"]["p50"] for row in result.models]
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from edgedet.benchmarks.latency.conditions import BeforeAfter, Conditions
from edgedet.benchmarks.latency.device import Device
from edgedet.benchmarks.latency.sustain import Sustained, Window
from edgedet.benchmarks.profile.profile import GroupCost, Profile
from edgedet.errors import InputError
from edgedet.files import read_text
from edgedet.schemas import SCHEMAS

HINT = "give the file of `edgedet bench --json FILE`"

T = TypeVar("T")


@dataclass(frozen=True)
class ModelResult:
    """One model on one number of threads.

    phi, weights: of files of the family only; num_classes: None in results of earlier versions.
    n:            runs that count. fps: 1 / mean of "end to end".
    ms:           stage -> {"p50": ..., "p90": ..., "p99": ...}.
    cpu_ms:       mean CPU time of a run, all threads.
    runs_ms:      each run's "network" and "end to end".
    """

    model: str
    model_sha256: str
    name: str
    phi: int | None
    weights: str | None
    input_hw: tuple[int, int]
    num_classes: int | None
    precision: str
    engine: str
    threads: int
    bytes: int
    macs: int | None
    gmacs_per_s: float | None
    n: int
    fps: float
    ms: dict[str, dict[str, float]]
    cpu_ms: float
    peak_rss_mb: float | None
    rss_before_mb: float | None
    ap: float | None
    runs_ms: dict[str, list[float]]
    sustain: Sustained | None = None
    profile: Profile | None = None


@dataclass(frozen=True)
class BenchResult:
    """A whole benchmark.

    frames:      number of pictures, of ``frame_hw``, from ``source``.
    left_out:    pairs of precision and engine for which there is no file, a line each.
    failures:    what failed, a line each.
    interrupted: whether Ctrl-C ended it.
    """

    edgedet: str
    device: Device
    conditions: Conditions
    threads: list[int]
    source: str
    frames: int
    frame_hw: tuple[int, int]
    score: float
    warmup: int
    models: list[ModelResult]
    left_out: list[str]
    failures: list[str]
    interrupted: bool


def json_from_result(result: BenchResult) -> dict[str, Any]:
    """Return the result as ``--json`` writes it."""
    items = {field.name: getattr(result, field.name) for field in fields(result)}
    items["conditions"] = asdict(result.conditions)
    items["models"] = [_json_from_model(row) for row in result.models]
    del items["edgedet"], items["device"]
    return {"schema": SCHEMAS["bench"], "edgedet": result.edgedet, **asdict(result.device), **items}


def _json_from_model(row: ModelResult) -> dict[str, Any]:
    items = {field.name: getattr(row, field.name) for field in fields(row)}
    if row.sustain is None:
        del items["sustain"]
    else:
        items["sustain"] = {"kept": row.sustain.kept, "windows": [asdict(window) for window in row.sustain.windows]}
    if row.profile is None:
        del items["profile"]
    else:
        items["profile"] = asdict(row.profile)
    return items


def result_from_json(items: Mapping[str, Any]) -> BenchResult:
    """Return the result that was written as JSON, also by an earlier version; raises InputError where it is none."""
    if items.get("schema") != SCHEMAS["bench"]:
        raise InputError(f"it is of schema {items.get('schema')}, not {SCHEMAS['bench']}")
    try:
        conditions = items["conditions"]
        readings = {name: BeforeAfter(**conditions[name]) for name in ("clocks_mhz", "gpu_mhz", "temperatures_c")}
        earlier = {"clock_min_mhz": None, "emulator": None}  # results of earlier versions do not have them
        return _build(
            BenchResult,
            items,
            device=_build(Device, items),
            conditions=_build(Conditions, {**earlier, **conditions}, **readings),
            frame_hw=tuple(items["frame_hw"]),
            models=[_model_from_json(row) for row in items["models"]],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"its entries are not those of a benchmark ({type(error).__name__}: {error})") from None


def _model_from_json(row: Mapping[str, Any]) -> ModelResult:
    sustain, profile = row.get("sustain"), row.get("profile")
    h, w = row["input_hw"]
    return _build(
        ModelResult,
        row,
        input_hw=(h, w),
        num_classes=row.get("num_classes"),
        sustain=None if sustain is None else Sustained(tuple(_build(Window, item) for item in sustain["windows"])),
        profile=None
        if profile is None
        else _build(
            Profile,
            profile,
            by_class=[_build(GroupCost, item) for item in profile["by_class"]],
            by_part=[_build(GroupCost, item) for item in profile["by_part"]],
        ),
    )


def _build(kind: type[T], items: Mapping[str, Any], **given: Any) -> T:
    """Return a dataclass of the entries that it has a field for, ``given`` before ``items``."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{**{name: value for name, value in items.items() if name in names}, **given})


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; raises InputError in one line where it cannot be read or is no JSON."""
    try:
        return json.loads(read_text(path, HINT))
    except (ValueError, RecursionError):
        raise InputError(f"{path} is no JSON; {HINT}.") from None


def read_result(path: Path) -> BenchResult:
    """Read a file of ``edgedet bench --json FILE``; raises InputError in one line where it is none."""
    items = read_json(path)
    if not isinstance(items, dict) or "models" not in items:
        raise InputError(f"{path} is no result of `edgedet bench`; {HINT}.")
    try:
        return result_from_json(items)
    except InputError as error:
        raise InputError(f"{path} is no result of `edgedet bench`: {error}. Measure again with --json FILE.") from None
