"""Plots of benchmarks, drawn by matplotlib: lines, dots and stacked bars as SVG, and labels that cover nothing.

An SVG is for a page that sets the CSS variables --ink, --soft, --rule and --c0 to --c7, so that one picture suits a
light and a dark screen. matplotlib knows no CSS: it draws with a stand-in for each colour, replaced at the end.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedet.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

COLOURS = 8  # of series; from the ninth on they come again, dashed
MOST_DOTS = 60  # those of long runs would cover their line
WIDTH_IN = 5.0  # at 72 units an inch: text of 10 units is 9 pixels high on a phone of 360 pixels
INK, SOFT, RULE = "#a10000", "#a20000", "#a30000"
SERIES = tuple(f"#a4000{index}" for index in range(COLOURS))
_VARIABLES = {INK: "ink", SOFT: "soft", RULE: "rule", **{colour: f"c{i}" for i, colour in enumerate(SERIES)}}
_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "edgedet",  # the same figures give the same file
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
# Places of a label around its dot, the best first: points to the right and up, and which side of the text is there.
_PLACES = (
    (6, 5, "left"),
    (-6, 5, "right"),
    (6, -13, "left"),
    (-6, -13, "right"),
    (0, 8, "center"),
    (0, -18, "center"),
    (6, 18, "left"),
    (-6, 18, "right"),
)


@dataclass(frozen=True)
class Series:
    """A line or a set of dots: (x, y) points, and a label for each or ()."""

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str] = ()
    line: bool = True


@dataclass(frozen=True)
class Axis:
    """What an axis shows: ``log`` takes positive numbers, ``zero`` begins at 0, ``ticks`` replaces the numbers."""

    name: str
    log: bool = False
    zero: bool = False
    ticks: Mapping[float, str] = field(default_factory=dict)


def draw_chart(series: Sequence[Series], x: Axis, y: Axis) -> Figure:
    """Draw a plot with axes and a legend below it."""
    with _styled():
        figure, axes = _new_figure(3.0, [item.name for item in series])
        for index, item in enumerate(series):
            across, up = zip(*item.points, strict=True)
            axes.plot(
                across,
                up,
                color=SERIES[index % COLOURS],
                linestyle=("--" if index >= COLOURS else "-") if item.line else "",
                marker="o" if len(item.points) <= MOST_DOTS else "",
                markersize=5,
                label=item.name,
            )
        _set_axis(axes.xaxis, x, [point[0] for item in series for point in item.points])
        _set_axis(axes.yaxis, y, [point[1] for item in series for point in item.points])
        _add_legend(figure, axes)
        labelled = [item for item in series if item.labels]
        label_points(
            axes,
            [point for item in labelled for point in item.points],
            [label for item in labelled for label in item.labels],
            colours=[SOFT] * sum(len(item.labels) for item in labelled),
        )
    return figure


def draw_stacked_bars(
    rows: Sequence[tuple[str, Sequence[float]]], part_names: Sequence[str], unit: str, relative: bool = False
) -> Figure:
    """Draw a horizontal bar for each row below its name, its parts one after the other, and the total behind it.

    relative: all bars are equally long, so that they show shares.
    """
    totals = [sum(values) or 1.0 for _, values in rows]
    with _styled():
        figure, axes = _new_figure(0.2 + 0.5 * len(rows), part_names)
        for index, name in enumerate(part_names):
            scales = totals if relative else [1.0] * len(rows)
            widths = [values[index] / scale for (_, values), scale in zip(rows, scales, strict=True)]
            starts = [sum(values[:index]) / scale for (_, values), scale in zip(rows, scales, strict=True)]
            axes.barh(range(len(rows)), widths, 0.42, left=starts, color=SERIES[index % COLOURS], label=name)
        for number, (name, values) in enumerate(rows):
            total = sum(values)
            axes.text(0, number - 0.28, _literal(name), va="bottom")
            axes.annotate(
                f"{total:.0f} {unit}" if abs(total) >= 1000 else f"{total:.3g} {unit}",
                (1.0 if relative and total else total, number),
                (5, 0),
                textcoords="offset points",
                va="center",
                color=SOFT,
                size=9,
            )
        axes.set_xlim(0, 1.18 * (1.0 if relative else max(totals, default=1.0)))
        axes.set_ylim(len(rows) - 0.6, -0.85)  # the first row on top
        axes.set_axis_off()
        _add_legend(figure, axes)
    return figure


def svg_from_figure(figure: Figure) -> str:
    """Return a figure as an SVG element for an HTML page, its colours as the page's CSS variables."""
    text = io.StringIO()
    with _styled():
        figure.savefig(text, format="svg", transparent=True)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'^<svg [^>]*viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="img">', svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="\w+">', "<g>", svg)  # several plots of one page would share these
    svg = svg.replace("xlink:href", "href")
    return re.sub(r"#a[1-4]000\d", lambda match: f"var(--{_VARIABLES[match[0]]})", svg)


def label_points(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    colours: Sequence[str],
    size: float = 9,
) -> list[Annotation]:
    """Write labels beside their points, where they cover no other label, no point and as little of lines as can be.

    The first labels have the first choice. One without a place is left out. Limits and size of the axes must be final.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()  # a layout is done now, or not at all
    figure.set_layout_engine("none")
    renderer = figure.canvas.get_renderer()
    dots = axes.transData.transform(points) if points else np.empty((0, 2))
    lines = [line.get_path().interpolated(20).vertices for line in axes.lines if line.get_linestyle() != "None"]
    lines = [axes.transData.transform(vertices) for vertices in lines]
    taken: list[Any] = []
    written = []
    for point, label, colour in zip(points, labels, colours, strict=True):
        best = None
        for right, up, side in _PLACES:
            text = axes.annotate(
                _literal(label), point, (right, up), textcoords="offset points", ha=side, size=size, color=colour
            )
            box = text.get_window_extent(renderer)
            inside = axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
            if not inside or box.padded(2).count_contains(dots) or any(box.overlaps(other) for other in taken):
                text.remove()
                continue
            covered = sum(box.count_contains(line) for line in lines)
            if best is None or covered < best[0]:
                if best is not None:
                    best[1].remove()
                best = covered, text, box
            else:
                text.remove()
        if best is not None:
            taken.append(best[2])
            written.append(best[1])
    return written


def _styled() -> Any:
    return require("matplotlib", "edgedet bench --html").rc_context(_STYLE)


def _new_figure(height_in: float, names: Sequence[str]) -> tuple[Figure, Axes]:
    """Return a figure with room for the plot and for a legend of ``names``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = math.ceil(len(names) / _legend_columns(names))
    figure = Figure(figsize=(WIDTH_IN, height_in + 0.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)  # measures text
    return figure, figure.add_subplot()


def _legend_columns(names: Sequence[str]) -> int:
    return max(1, min(len(names), 56 // (max(map(len, names), default=1) + 7)))


def _add_legend(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, map(_literal, names), loc="outside lower left", ncols=_legend_columns(names))


def _set_axis(axis: Any, meant: Axis, values: Sequence[float]) -> None:
    """Set name, scale, limits and ticks of a matplotlib axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = min(values, default=0.0), max(values, default=1.0)
    low, high = (math.log10(low), math.log10(high)) if meant.log else (min(low, 0.0) if meant.zero else low, high)
    margin = max(0.06 * (high - low), 0.02 if meant.log else 0.02 * abs(high), 1e-9)  # also of one number alone
    low, high = (low if meant.zero else low - margin), high + margin
    name = axis.axis_name
    if meant.log:
        axis.axes.set(**{f"{name}scale": "log"})
    limits = (10**low, 10**high) if meant.log else (low, high)
    axis.axes.set(**{f"{name}label": _literal(meant.name), f"{name}lim": limits})
    axis.set_minor_locator(NullLocator())
    if meant.ticks:
        axis.set_ticks(list(meant.ticks), labels=[_literal(name) for name in meant.ticks.values()])
        return
    if not meant.log or high - low < 0.5:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    else:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high - low < 2.3 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}" if value >= 1000 else f"{value:.4g}"))


def _literal(text: str) -> str:
    """Return text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")
