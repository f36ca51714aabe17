"""Published figures of boards, latencies and accuracy, with their sources, from boards.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgedet.benchmarks.planner.costs import find_own_side, shorten_variant
from edgedet.errors import InputError

DATA = Path(__file__).with_name("boards.json")
# What our own INT8 files keep of their float AP where it was measured (docs/int8.md); on COCO nobody measured it.
INT8_KEPT_LOWEST, INT8_KEPT_HIGHEST = 0.983, 1.017
OFFICIAL = "published, official weights"
TRAINED_AT_640 = "at 640 x 640: published, official weights that were trained at that size (automl's coco640)"
INT8_NOTE = (
    f"INT8 of D models: the float AP times {INT8_KEPT_LOWEST}, the least that our D0 kept of its own on two small data "
    f"sets (the most: {INT8_KEPT_HIGHEST}); on COCO not measured"
)


@dataclass(frozen=True)
class Board:
    """One board.

    family:     boards of one family share what they reach of their peaks.
    engine:     "tflite" or "trt": what edgedet runs there.
    precisions: that its hardware and engine have.
    cores:      CPU cores that compute; 1 for a GPU.
    gmacs:      precision -> giga multiply-accumulates a second at the peak, a core.
    gb_per_s:   memory bandwidth of the data sheet.
    like:       the board with the same kind of cores that it is scaled from, where nothing was published about it.
    specs:      where gmacs and gb_per_s come from, in words.
    """

    name: str
    title: str
    family: str
    engine: str
    precisions: tuple[str, ...]
    cores: int
    gmacs: dict[str, float]
    gb_per_s: float
    ram_gb: float
    like: str | None
    notes: tuple[str, ...]
    specs: str


@dataclass(frozen=True)
class Figure:
    """One published latency of one of the family's models at its own size, batch 1; ``source`` is a key of SOURCES."""

    board: str
    variant: str
    precision: str
    threads: int
    ms: float
    source: str


@dataclass(frozen=True)
class Source:
    """A publication of latencies.

    where:     its address.
    engine:    name of the engine; ``version`` is None where it is not stated.
    includes:  the work that the times include.
    statistic: mean, median or other, and of how many runs.
    """

    where: str
    engine: str
    version: str | None
    batch: int
    includes: str
    statistic: str


@dataclass(frozen=True)
class Accuracy:
    """An AP: ``value`` is None where nobody published one, ``note`` says whose it is and how it was found."""

    value: float | None
    note: str


@cache
def _read_data() -> dict[str, Any]:
    return dict(json.loads(DATA.read_text(encoding="utf-8")))


def read_boards() -> dict[str, Board]:
    """Return all boards by name."""
    return {
        name: Board(name=name, **{**item, "precisions": tuple(item["precisions"]), "notes": tuple(item["notes"])})
        for name, item in _read_data()["boards"].items()
    }


def find_board(name: str) -> Board:
    """Return one board; raises InputError that lists them for another name."""
    known = read_boards()
    short = name.lower().replace("_", "-").replace(" ", "-")
    for candidate in (short, f"jetson-{short}", short.removeprefix("jetson-"), short.replace("rpi", "raspberry-pi-")):
        if candidate in known:
            return known[candidate]
    raise InputError(
        f"nothing was published about a board called {name!r}, so nothing can be planned for it: choose from "
        f"{', '.join(known)}, or run `edgedet bench --json bench.json` on the board and plan with --from bench.json."
    )


def read_figures() -> list[Figure]:
    """Return all published latencies of the family."""
    return [Figure(*row) for row in _read_data()["figures"]]


def read_sources() -> dict[str, Source]:
    """Return the sources of published figures by their keys."""
    return {key: Source(**item) for key, item in _read_data()["sources"].items()}


def read_other_networks() -> dict[str, dict[str, float]]:
    """Return network -> board -> FP16 milliseconds, of networks that are none of this family."""
    return dict(_read_data()["other_networks"])


def read_published_memory(engine: str) -> list[tuple[str, str, float]]:
    """Return (variant, precision, megabytes) as engines reported them."""
    return [tuple(row) for row in _read_data()["memory"][engine]["mb"]]


def find_accuracy(variant: str, side: int, precision: str) -> Accuracy:
    """Return the COCO val2017 AP of the official weights, in points, and what is known of it in this precision."""
    variant = shorten_variant(variant)
    key = variant if side == find_own_side(variant) else f"{variant}@{side}"
    published = _read_data()["ap"]["float"].get(key)
    if published is None:
        return Accuracy(None, "for this size: none was published")
    if precision != "int8":
        return Accuracy(published, OFFICIAL if side == find_own_side(variant) else TRAINED_AT_640)
    if key in _read_data()["ap"]["int8"]:
        return Accuracy(
            _read_data()["ap"]["int8"][key],
            "INT8 of Lite models: published for the official INT8 files; ours not measured on COCO",
        )
    return Accuracy(INT8_KEPT_LOWEST * published, INT8_NOTE)
