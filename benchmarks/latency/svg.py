"""Plots as SVG text: lines, dots and stacked bars. Knows numbers and names; knows no benchmark. Colours are CSS's.

Series take the classes s0, s1, ... whose colours the page sets for light and dark; from the ninth on they come again,
with the class d1 (dashed).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 52
COLOURS = 8
MOST_DOTS = 60  # those of long runs would cover their line
# of a label, at the size that it has on phones
_CHARACTER, _LINE = 10.0, 17.0
# places of a label around its dot, the best first: right or left of it, and how much lower the text's foot is
_PLACES = (
    ("start", 8, -6), ("end", -8, -6), ("start", 8, 17), ("end", -8, 17), ("middle", 0, -11), ("middle", 0, 24),
    ("start", 8, -24), ("end", -8, -24),
)  # fmt: skip


@dataclass(frozen=True)
class Series:
    """A line or a set of dots: (x, y) points, and a label for each or ()."""

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str] = ()
    line: bool = True


@dataclass(frozen=True)
class Axis:
    """What an axis shows: ``log`` wants positive numbers, ``zero`` begins at 0, ``ticks`` replaces the numbers."""

    name: str
    log: bool = False
    zero: bool = False
    ticks: Mapping[float, str] = field(default_factory=dict)


def chart(series: Sequence[Series], x: Axis, y: Axis) -> str:
    """Return a plot with axes and a legend."""
    across = _Scale([at[0] for one in series for at in one.points], x, LEFT, WIDTH - RIGHT)
    up = _Scale([at[1] for one in series for at in one.points], y, HEIGHT - BOTTOM, TOP)
    places = [[(across.place(a), up.place(b)) for a, b in one.points] for one in series]
    parts = [_grid(across, up, x.name, y.name)]
    for index, (one, points) in enumerate(zip(series, places, strict=True)):
        if one.line and len(points) > 1:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            parts.append(f'<polyline class="line {_colour(index)}" points="{path}"/>')
    for index, (one, points) in enumerate(zip(series, places, strict=True)):
        if len(points) > MOST_DOTS:
            continue
        for number, (a, b) in enumerate(points):
            label = f" {one.labels[number]}" if one.labels else ""
            title = escape(f"{one.name}{label}: {one.points[number][0]:.4g}, {one.points[number][1]:.4g}")
            parts.append(
                f'<circle class="dot {_colour(index)}" cx="{a:.1f}" cy="{b:.1f}" r="4"><title>{title}</title></circle>'
            )
    return _svg([*parts, *_labels(series, places)], HEIGHT) + _legend([one.name for one in series])


def stacked_bars(
    rows: Sequence[tuple[str, Sequence[float]]], parts_names: Sequence[str], unit: str, relative: bool = False
) -> str:
    """Return horizontal bars below their names, each of its parts one after the other, and the total behind it.

    relative: all bars are equally long, so that they show shares.
    """
    step, bar = 44, 16
    most = max((sum(values) for _, values in rows), default=1.0) or 1.0
    parts = []
    for number, (name, values) in enumerate(rows):
        y, x = 16 + step * number, 0.0
        scale = (WIDTH - 100) / ((sum(values) or 1.0) if relative else most)
        parts.append(f'<text x="0" y="{y}">{escape(name)}</text>')
        for index, value in enumerate(values):
            title = escape(f"{name}, {parts_names[index]}: {value:.2f} {unit}")
            parts.append(
                f'<rect class="bar {_colour(index)}" x="{x:.1f}" y="{y + 6}" width="{max(value * scale, 0):.1f}" '
                f'height="{bar}"><title>{title}</title></rect>'
            )
            x += value * scale
        parts.append(f'<text class="small" x="{x + 6:.1f}" y="{y + 6 + bar - 3}">{_number(sum(values))} {unit}</text>')
    return _svg(parts, 4 + step * len(rows)) + _legend(parts_names)


class _Scale:
    """Numbers to pixels, and round numbers to write beside them."""

    def __init__(self, values: Sequence[float], axis: Axis, start: float, end: float) -> None:
        self._axis, self._start, self._end = axis, start, end
        low, high = min(values, default=0.0), max(values, default=1.0)
        if axis.log:
            low, high = math.log10(low), math.log10(high)
        low = min(low, 0.0) if axis.zero else low
        margin = max(0.06 * (high - low), 0.02 if axis.log else 0.02 * abs(high), 1e-9)  # also of one number alone
        self._low, self._high = low - (0.0 if axis.zero else margin), high + margin

    def place(self, value: float) -> float:
        """Return the pixel of a number."""
        number = math.log10(value) if self._axis.log else value
        return self._start + (number - self._low) / (self._high - self._low) * (self._end - self._start)

    def ticks(self) -> dict[float, str]:
        """Return number -> what to write there, at least three but for an axis of names."""
        return dict(self._axis.ticks) or {tick: _number(tick) for tick in self._numbers()}

    def _numbers(self) -> list[float]:
        if not self._axis.log:
            return _round_numbers(self._low, self._high)
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        for factors, least in (((1,), 4), ((1, 2, 5), 3)):
            ticks = [factor * 10.0**decade for decade in decades for factor in factors]
            ticks = [tick for tick in ticks if self._low <= math.log10(tick) <= self._high]
            if len(ticks) >= least:
                return ticks
        return _round_numbers(10**self._low, 10**self._high, 8)


def _round_numbers(low: float, high: float, most: int = 5) -> list[float]:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [step * index for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _labels(series: Sequence[Series], places: Sequence[Sequence[tuple[float, float]]]) -> list[str]:
    """Return labels beside their dots, where they cover no other label and as few dots and lines as can be.

    One without such a place is left out: the dot's title has it.
    """
    taken: list[tuple[float, float, float, float]] = []
    dots = [point for points in places for point in points]
    lines = [
        point for one, points in zip(series, places, strict=True) if one.line
        for start, end in zip(points, points[1:], strict=False) for point in _between(start, end)
    ]  # fmt: skip
    found = []
    for one, points in zip(series, places, strict=True):
        for label, (x, y) in zip(one.labels, points, strict=False):
            best = None
            for anchor, right, down in _PLACES:
                width = _CHARACTER * len(label)
                left = x + right - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
                box = (left, y + down - _LINE + 4, left + width, y + down + 2)
                if box[0] < LEFT or box[2] > WIDTH or box[1] < TOP - 8 or box[3] > HEIGHT - BOTTOM:
                    continue
                if any(_overlap(box, other) for other in taken):
                    continue
                cost = 3 * sum(_inside(dot, box, 5) for dot in dots) + sum(_inside(point, box, 0) for point in lines)
                if best is None or cost < best[0]:
                    best = cost, box, anchor, x + right, y + down
            if best is not None:
                taken.append(best[1])
                _, _, anchor, left, foot = best
                found.append(
                    f'<text class="small" x="{left:.1f}" y="{foot:.1f}" text-anchor="{anchor}">{escape(label)}</text>'
                )
    return found


def _between(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    count = max(1, round(math.dist(start, end) / 6))
    return [
        (start[0] + (end[0] - start[0]) * k / count, start[1] + (end[1] - start[1]) * k / count) for k in range(count)
    ]


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _inside(point: tuple[float, float], box: tuple[float, float, float, float], margin: float) -> bool:
    return box[0] - margin < point[0] < box[2] + margin and box[1] - margin < point[1] < box[3] + margin


def _grid(x_scale: _Scale, y_scale: _Scale, x_name: str, y_name: str) -> str:
    parts = []
    for tick, name in x_scale.ticks().items():
        x = x_scale.place(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="small" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(name)}</text>'
        )
    for tick, name in y_scale.ticks().items():
        y = y_scale.place(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="small" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>')
    parts.append(f'<text x="4" y="18">{escape(y_name)}</text>')
    return "".join(parts)


def _colour(index: int) -> str:
    return f"s{index % COLOURS}{' d1' if index >= COLOURS else ''}"


def _svg(parts: Sequence[str], height: float) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img">{"".join(parts)}</svg>'


def _legend(names: Sequence[str]) -> str:
    items = [f'<span><i class="key {_colour(index)}"></i>{escape(name)}</span>' for index, name in enumerate(names)]
    return f'<p class="legend">{"".join(items)}</p>'
