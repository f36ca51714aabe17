"""Plots as SVG text: lines, dots and stacked bars. Knows numbers and names; knows no benchmark. Colours are CSS's.

Series take the classes s0, s1, ... whose colours the page sets for light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 48
COLOURS = 8


@dataclass(frozen=True)
class Series:
    """A line or a set of dots: (x, y) points, and a label for each or ()."""

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str] = ()
    line: bool = True


def chart(series: Sequence[Series], x_name: str, y_name: str, log_x: bool = False, log_y: bool = False) -> str:
    """Return a plot with axes; logarithmic axes want positive numbers."""
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    x_axis = _Axis(xs, log_x, LEFT, WIDTH - RIGHT)
    y_axis = _Axis(ys, log_y, HEIGHT - BOTTOM, TOP)
    parts = [_grid(x_axis, y_axis, x_name, y_name)]
    for index, one in enumerate(series):
        places = [(x_axis.place(x), y_axis.place(y)) for x, y in one.points]
        colour = f"s{index % COLOURS}"
        if one.line and len(places) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(f'<polyline class="line {colour}" points="{path}"/>')
        if len(places) <= 60:  # dots of long runs would cover their line
            for number, (x, y) in enumerate(places):
                label = one.labels[number] if one.labels else ""
                at = f"{one.points[number][0]:.4g}, {one.points[number][1]:.4g}"
                title = escape(f"{one.name} {label}: {at}")
                parts.append(
                    f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{title}</title></circle>'
                )
                if label:
                    anchor = "end" if x > WIDTH - 90 else "start"
                    parts.append(
                        f'<text class="small" x="{x + (-7 if anchor == "end" else 7):.1f}" y="{y - 6:.1f}" '
                        f'text-anchor="{anchor}">{escape(label)}</text>'
                    )
    return _svg(parts, HEIGHT) + _legend([one.name for one in series])


def stacked_bars(rows: Sequence[tuple[str, Sequence[float]]], parts_names: Sequence[str], unit: str) -> str:
    """Return horizontal bars, one a row, of its parts one after the other; the total stands behind each."""
    left, step = 210, 26
    height = TOP + step * len(rows) + 8
    most = max((sum(values) for _, values in rows), default=1.0) or 1.0
    scale = (WIDTH - left - 80) / most
    parts = []
    for number, (name, values) in enumerate(rows):
        y, x = TOP + step * number, float(left)
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(name[-30:])}</text>')
        for index, value in enumerate(values):
            title = escape(f"{name}, {parts_names[index]}: {value:.2f} {unit}")
            parts.append(
                f'<rect class="bar s{index % COLOURS}" x="{x:.1f}" y="{y}" width="{max(value * scale, 0):.1f}" '
                f'height="{step - 8}"><title>{title}</title></rect>'
            )
            x += value * scale
        parts.append(f'<text class="small" x="{x + 6:.1f}" y="{y + 13}">{sum(values):.3g} {unit}</text>')
    return _svg(parts, height) + _legend(parts_names)


class _Axis:
    """Numbers to pixels, and round numbers to write beside them."""

    def __init__(self, values: Sequence[float], log: bool, start: float, end: float) -> None:
        low, high = min(values, default=0.0), max(values, default=1.0)
        self._log = log
        if log:
            low, high = math.log10(low), math.log10(high)
            margin = max(0.05 * (high - low), 0.03)
            self._low, self._high = low - margin, high + margin
        else:
            self._low, self._high = min(low, 0.0), high * 1.08 or 1.0
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        number = math.log10(value) if self._log else value
        return self._start + (number - self._low) / (self._high - self._low) * (self._end - self._start)

    def ticks(self) -> list[float]:
        if not self._log:
            rough = (self._high - self._low) / 5
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
            return [step * index for index in range(int(self._high / step) + 1)]
        factors = (1, 2, 5) if self._high - self._low < 2.5 else (1,)
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        return [tick for tick in ticks if self._low <= math.log10(tick) <= self._high]


def _grid(x_axis: _Axis, y_axis: _Axis, x_name: str, y_name: str) -> str:
    parts = []
    for tick in x_axis.ticks():
        x = x_axis.place(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="small" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    for tick in y_axis.ticks():
        y = y_axis.place(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="small" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>'
    )
    parts.append(
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(y_name)}</text>'
    )
    return "".join(parts)


def _svg(parts: Sequence[str], height: float) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img">{"".join(parts)}</svg>'


def _legend(names: Sequence[str]) -> str:
    items = [f'<span><i class="key s{index % COLOURS}"></i>{escape(name)}</span>' for index, name in enumerate(names)]
    return f'<p class="legend">{"".join(items)}</p>'
