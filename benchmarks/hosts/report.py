"""The results of several machines as text and as one page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TextIO

from edgedet.benchmarks.hosts.bench_hosts import HostResult
from edgedet.benchmarks.latency.page import make_document, make_models_table
from edgedet.benchmarks.latency.result import ModelResult
from edgedet.benchmarks.latency.table import describe_conditions, name_row
from edgedet.benchmarks.plotting import draw_stacked_bars, svg_from_figure
from edgedet.files import atomic_path

_HEAD = f"{'':<22}{'':<34}{'':>8}{'network':>9}{'end to end, ms':>18}{'':>8}{'':>9}\n" + (
    f"{'machine':<22}{'model':<34}{'threads':>8}{'p50 ms':>9}{'p50':>9}{'p99':>9}{'FPS':>8}{'MB':>9}"
)


def print_hosts(results: Sequence[HostResult], text: TextIO) -> None:
    """Print one table of all machines, then what each of them is and what to doubt."""
    print(_HEAD, file=text)
    for item in results:
        for row in item.result.models if item.result else ():
            print(
                f"{item.host[-21:]:<22}{name_row(row)[-33:]:<34}{row.threads:>8}{row.ms['network']['p50']:>9.1f}"
                f"{row.ms['end to end']['p50']:>9.1f}{row.ms['end to end']['p99']:>9.1f}{row.fps:>8.1f}"
                f"{row.peak_rss_mb or 0:>9.0f}",
                file=text,
            )
        if item.failure is not None:
            print(f"{item.host[-21:]:<22}failed: {item.failure}", file=text)
    for item in results:
        if item.result is None:
            continue
        device = item.result.device
        print(f"\n{item.host}: {device.device}, {device.cores} cores, {device.os}, Python {device.python}", file=text)
        for line in [*describe_conditions(item.result.conditions), *_doubts(item)]:
            print(f"  {line}", file=text)


def write_hosts_page(results: Sequence[HostResult], path: Path) -> None:
    """Write one page of all machines; raises InputError where it cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(_make_page(results), encoding="utf-8")


def _make_page(results: Sequence[HostResult]) -> str:
    parts = []
    for item in results:
        if item.result is None:
            parts.append(f"<h2>{escape(item.host)}</h2><p class='warning'>failed: {escape(item.failure or '')}</p>")
            continue
        device = item.result.device
        conditions = "".join(
            f"<p class='soft'>{escape(line)}</p>" for line in describe_conditions(item.result.conditions)
        )
        doubts = "".join(f"<p class='warning'>{escape(line)}</p>" for line in _doubts(item))
        parts.append(
            f"<h2>{escape(item.host)}</h2><p>{escape(device.device)}, {device.cores} cores, {escape(device.os)}, "
            f"Python {device.python}, numpy {device.numpy}, OpenCV {device.opencv}</p>{conditions}{doubts}"
            f"<div class='scroll models'>{make_models_table(item.result.models)}</div>"
        )
    title = f"edgedet bench: {len(results)} machines"
    return make_document(title, f"<h1>{title}</h1>{_plot(results)}{''.join(parts)}")


def _plot(results: Sequence[HostResult]) -> str:
    bars = [
        (f"{item.host}: {_label(row)}", [row.fps])
        for item in results
        for row in (item.result.models if item.result else ())
    ]
    if not bars:
        return ""
    figure = draw_stacked_bars(bars, ["frames a second, end to end"], "frames a second", False)
    return f"<div class='plot'>{svg_from_figure(figure)}</div>"


def _label(row: ModelResult) -> str:
    return f"{name_row(row)}, {row.threads} thread{'s' if row.threads > 1 else ''}"


def _doubts(item: HostResult) -> list[str]:
    assert item.result is not None
    return [*item.result.conditions.warnings, *item.result.failures]
