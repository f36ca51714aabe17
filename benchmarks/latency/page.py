"""``edgedet bench --html``: one page with tables and plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedet.benchmarks.latency.measure import STAGES
from edgedet.benchmarks.latency.result import BenchResult, ModelResult
from edgedet.benchmarks.latency.sustain import Window
from edgedet.benchmarks.latency.table import describe_conditions, format_figure, name_row
from edgedet.benchmarks.plotting import Axis, Series, draw_chart, draw_stacked_bars, svg_from_figure
from edgedet.benchmarks.profile.profile import GroupCost
from edgedet.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2430;--soft:#667085;--rule:#dfe3e8;
--c0:#2563eb;--c1:#d97706;--c2:#059669;--c3:#be185d;--c4:#7c3aed;--c5:#0891b2;--c6:#65a30d;--c7:#dc2626}
@media(prefers-color-scheme:dark){:root{--paper:#12161c;--ink:#e6e9ee;--soft:#98a2b3;--rule:#2b333e;
--c0:#7aa7ff;--c1:#f5b14c;--c2:#4ade9c;--c3:#f472b6;--c4:#b794f6;--c5:#4cd3ea;--c6:#a7d94a;--c7:#f87171}}
*{box-sizing:border-box}body{margin:0 auto;max-width:78rem;padding:1rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
p{margin:.4rem 0}.soft{color:var(--soft);font-size:.9rem}.scroll{overflow-x:auto}
.warning{border-left:4px solid var(--c1);padding:.3rem .7rem;margin:.6rem 0}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:.25rem .45rem;text-align:right;border-bottom:1px solid var(--rule)}th{font-weight:600;white-space:pre;
vertical-align:bottom}table+table,.scroll+.scroll{margin-top:1.2rem}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper);max-width:11rem;
white-space:normal;overflow-wrap:anywhere;min-width:8rem}
.models td:nth-last-child(-n+2){white-space:normal;overflow-wrap:break-word;min-width:5rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(30rem,100%),1fr));column-gap:2.5rem}
.plot{max-width:36rem}svg{width:100%;height:auto;display:block}
svg text{font-family:system-ui,sans-serif!important}
"""


def write_page(result: BenchResult, path: Path) -> None:
    """Write the page; raises InputError where the folder cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(make_page(result), encoding="utf-8")


def make_page(result: BenchResult) -> str:
    """Return the page: conditions, tables, and each plot that there are figures for."""
    conditions = "".join(f"<p class='soft'>{escape(line)}</p>" for line in describe_conditions(result.conditions))
    device = result.device
    doubts = [*result.conditions.warnings, *result.failures, *result.left_out]
    warnings = "".join(f"<p class='warning'>{escape(text)}</p>" for text in doubts)
    plots = [
        f"<section><h2>{title}</h2>{text}<div class='plot'>{svg_from_figure(figure)}</div></section>"
        for title, text, figure in _plots(result)
        if figure is not None
    ]
    return make_document(
        f"edgedet bench: {device.device}",
        f"<h1>edgedet bench</h1><p>{escape(device.device)}, {device.cores} cores, edgedet {result.edgedet}, "
        f"{escape(device.os)}, Python {device.python}, numpy {device.numpy}, OpenCV {device.opencv}</p>"
        f"{conditions}{warnings}"
        f"<h2>Models</h2><div class='scroll models'>{make_models_table(result.models)}</div>"
        "<p class='soft'>FPS is 1 / mean time from a frame in memory to its boxes; reading and drawing are not in it. "
        f"Frames: {escape(result.source)}; score {result.score}; warm-up {result.warmup}. Peak RSS is of a "
        "process with this model only.</p>"
        f"<div class='plots'>{''.join(plots)}</div>{_profiles(result.models)}",
    )


def make_document(title: str, body: str) -> str:
    """Return a whole page of a benchmark: the text of its title, and the HTML of its body."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def make_models_table(rows: Sequence[ModelResult]) -> str:
    """Return the HTML table of the models' figures."""
    columns: list[tuple[str, Callable[[ModelResult], str]]] = [
        ("model", lambda row: escape(name_row(row))),
        ("threads", lambda row: str(row.threads)),
        ("network\np50 ms", lambda row: f"{row.ms['network']['p50']:.1f}"),
        ("end to end\np50 ms", lambda row: f"{row.ms['end to end']['p50']:.1f}"),
        ("p90", lambda row: f"{row.ms['end to end']['p90']:.1f}"),
        ("p99", lambda row: f"{row.ms['end to end']['p99']:.1f}"),
        ("FPS", lambda row: f"{row.fps:.1f}"),
        ("CPU\nms", lambda row: f"{row.cpu_ms:.1f}"),
        ("GMAC", lambda row: format_figure(row.macs and row.macs / 1e9, ".2f")),
        ("GMAC/s", lambda row: format_figure(row.gmacs_per_s, ".1f")),
        ("peak RSS\nMB", lambda row: format_figure(row.peak_rss_mb, ".0f")),
        ("file\nMB", lambda row: f"{row.bytes / 1e6:.1f}"),
        ("AP", lambda row: "-" if row.ap is None else f"{row.ap:.4f}"),
        ("runs", lambda row: str(row.n)),
        ("engine", lambda row: escape(row.engine)),
        ("weights", lambda row: escape(row.weights or "")),
    ]
    return _table([name for name, _ in columns], [[cell(row) for _, cell in columns] for row in rows])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{cells}</table>"


def _plots(result: BenchResult) -> list[tuple[str, str, Figure | None]]:
    """Return title, a line of text, and the figure of each plot; None where there is nothing to draw."""
    rows = result.models
    return [
        ("Latency by phi", "", _by_phi(rows)),
        ("Speed against AP", "", _against_ap(rows)),
        ("Time against multiply-accumulates", *_against_macs(rows)),
        ("Long runs", "", _sustained(rows, lambda window: window.fps, Axis("frames a second", zero=True))),
        ("Temperature in long runs", "", _sustained(rows, lambda window: window.celsius, Axis("hottest sensor, C"))),
        ("Where the time of a frame goes", *_stages(rows)),
    ]


def _kind(row: ModelResult) -> str:
    """Return what the rows of one line have in common: all but the size."""
    return f"{row.precision} {Path(row.model).suffix[1:]}, {_threads(row)}"


def _threads(row: ModelResult) -> str:
    return f"{row.threads} thread{'s' if row.threads > 1 else ''}"


def _lines(rows: Sequence[ModelResult], point: Callable[[ModelResult], tuple[float, float]]) -> list[Series]:
    """Return a line of each kind, labelled by size; dots where files are the user's own, which belong to no family."""
    lines = []
    for kind in dict.fromkeys(_kind(row) for row in rows):
        of_kind = [row for row in rows if _kind(row) == kind]
        is_family = all(row.phi is not None for row in of_kind)
        lines.append(Series(kind, [point(row) for row in of_kind], [_size(row) for row in of_kind], is_family))
    return lines


def _size(row: ModelResult) -> str:
    return name_row(row).split()[0] if row.phi is not None else name_row(row)


def _by_phi(rows: Sequence[ModelResult]) -> Figure | None:
    known = [row for row in rows if row.phi is not None]
    if len({row.phi for row in known}) < 2:
        return None
    lines = _lines(known, lambda row: (row.phi or 0, row.ms["end to end"]["p50"]))
    sizes = Axis("compound scaling, phi", ticks={row.phi or 0: _size(row) for row in known})
    return draw_chart([replace(line, labels=()) for line in lines], sizes, Axis("end to end, p50 ms", log=True))


def _stages(rows: Sequence[ModelResult]) -> tuple[str, Figure]:
    parts = STAGES[:-1]
    bars = [(f"{name_row(row)}, {_threads(row)}", [row.ms[stage]["p50"] for stage in parts]) for row in rows]
    totals = [sum(values) for _, values in bars]
    relative = max(totals) > 15 * min(totals)
    text = f"medians of each stage{', as shares, because totals differ much' if relative else ''}"
    return f"<p class='soft'>{text}</p>", draw_stacked_bars(bars, parts, "ms", relative)


def _against_ap(rows: Sequence[ModelResult]) -> Figure | None:
    known = [row for row in rows if row.ap is not None]
    if not known:
        return None
    lines = _lines(known, lambda row: (row.fps, row.ap or 0.0))
    return draw_chart(lines, Axis("frames a second, end to end", log=True), Axis("AP"))


def _against_macs(rows: Sequence[ModelResult]) -> tuple[str, Figure | None]:
    known = [row for row in rows if row.macs]
    if len({row.macs for row in known}) < 2:
        return "", None
    lines = []
    for kind in dict.fromkeys(_kind(row) for row in known):
        of_kind = [row for row in known if _kind(row) == kind]
        if len({row.macs for row in of_kind}) > 2:
            network_ms = [row.ms["network"]["p50"] for row in of_kind]
            exponent, worst = fit_growth([row.macs or 0 for row in of_kind], network_ms)
            lines.append(f"{kind}: time grows with MACs to the power {exponent:.2f}, each within {100 * worst:.0f} %")
    text = f"<p class='soft'>network alone<br>{'<br>'.join(map(escape, lines))}</p>" if lines else ""
    series = _lines(known, lambda row: ((row.macs or 0) / 1e9, row.ms["network"]["p50"]))
    return text, draw_chart(series, Axis("GMAC", log=True), Axis("network, p50 ms", log=True))


def fit_growth(costs: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Fit values = a x costs ** exponent by least squares of logarithms; return the exponent and the largest share by
    which a value lies off the fit."""
    x, y = np.log(costs), np.log(values)
    exponent, offset = np.polyfit(x, y, 1)
    return float(exponent), float(np.max(np.abs(np.exp(y - exponent * x - offset) - 1)))


def _sustained(rows: Sequence[ModelResult], value_of: Callable[[Window], float | None], y: Axis) -> Figure | None:
    series = []
    for row in rows:
        windows = () if row.sustain is None else row.sustain.windows
        points = [(window.t_s / 60, value) for window in windows if (value := value_of(window)) is not None]
        if points:
            series.append(Series(f"{name_row(row)}, {_threads(row)}", points))
    return draw_chart(series, Axis("minutes", zero=True), y) if series else None


def _profiles(rows: Sequence[ModelResult]) -> str:
    parts = []
    for row in rows:
        if row.profile is None:
            continue
        parts.append(f"<h2>Profile of {escape(name_row(row))}</h2><p class='soft'>{escape(row.profile.note)}</p>")
        for title, costs in (("operators", row.profile.by_class), ("part of the network", row.profile.by_part)):
            head = [title, "ms", "share", "GMAC", "MB moved", "roofline ms", "of roofline"]
            if costs:
                parts.append(f"<div class='scroll'>{_table(head, [_cost_cells(cost) for cost in costs])}</div>")
    return "".join(parts)


def _cost_cells(cost: GroupCost) -> list[str]:
    return [
        escape(cost.name),
        f"{cost.ms:.2f}",
        f"{cost.share:.0%}",
        _known(cost.gmacs, ".3f"),
        _known(cost.mb, ".1f"),
        _known(cost.roofline_ms, ".2f"),
        _known(cost.of_roofline, ".0%"),
    ]


def _known(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
