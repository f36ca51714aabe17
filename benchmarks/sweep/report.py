"""A sweep as a table and as one picture for each board: milliseconds against AP."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edgedet.benchmarks.plotting import label_points
from edgedet.benchmarks.sweep.cells import DONE
from edgedet.benchmarks.sweep.run_sweep import Speed, SweepRow, recommend
from edgedet.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which the colour-blind tell apart.
_COLOURS = {"fp32": "#0072B2", "int8": "#D55E00"}


def print_sweep(rows: Sequence[SweepRow], boards: Sequence[str], budget_ms: float | None, text: TextIO) -> None:
    """Print each candidate with its AP and its milliseconds, and the one to take on each board."""
    print(f"{'candidate':<34}{'AP':>7}" + "".join(f"{board:>26}" for board in boards), file=text)
    for row in rows:
        result = row.result
        if result.status != DONE:
            print(f"{result.name[-33:]:<34}{textwrap.shorten(f'{result.status}: {result.reason}', 80)}", file=text)
            continue
        speeds = {speed.board: speed for speed in row.speeds}
        cells = "".join(f"{_describe(speeds.get(board)):>26}" for board in boards)
        print(f"{result.name[-33:]:<34}{result.ap or 0:>7.3f}{cells}", file=text)
    for board in boards:
        best = recommend(rows, board, budget_ms)
        within = "" if budget_ms is None else f" within {budget_ms:g} ms"
        if best is None:
            print(f"\n{board}: nothing{within}. Try a smaller size, or INT8.", file=text)
            continue
        speed = next(item for item in best.speeds if item.board == board)
        print(
            f"\n{board}: take {best.result.name}, the highest AP{within} ({best.result.ap:.3f}; {_describe(speed)} ms, "
            f"{speed.basis})\n  {best.result.file}",
            file=text,
        )


def _describe(speed: Speed | None) -> str:
    return "-" if speed is None else f"{speed.ms:.1f} ({speed.low_ms:.1f} to {speed.high_ms:.1f})"


def write_sweep_picture(rows: Sequence[SweepRow], boards: Sequence[str], budget_ms: float | None, path: Path) -> None:
    """Draw each candidate's AP over its milliseconds, with bands; the Pareto front is a line, the choice has a ring."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7 * len(boards), 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(boards), squeeze=False)[0]
    all_axes[0].set_ylabel("AP on your pictures")
    for axes, board in zip(all_axes, boards, strict=True):
        _draw(axes, rows, board, budget_ms)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def _draw(axes: Axes, rows: Sequence[SweepRow], board: str, budget_ms: float | None) -> None:
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    points = [
        (row, speed) for row in rows for speed in row.speeds if speed.board == board and row.result.ap is not None
    ]
    axes.set(title=board, xlabel="ms a frame (line: band)", xscale="log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))  # with all nine, their numbers overlap
    axes.xaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(alpha=0.25)
    for precision, colour in _COLOURS.items():
        group = [(row, speed) for row, speed in points if row.result.precision == precision]
        if group:
            x = [speed.ms for _, speed in group]
            y = [row.result.ap or 0.0 for row, _ in group]
            bands = [[speed.ms - speed.low_ms for _, speed in group], [speed.high_ms - speed.ms for _, speed in group]]
            axes.errorbar(x, y, xerr=bands, fmt="o", color=colour, ecolor=colour, elinewidth=1, label=precision)
    front = pareto_front([(speed.ms, row.result.ap or 0.0) for row, speed in points])
    if front:
        axes.plot(*zip(*front, strict=True), color="grey", linewidth=1, zorder=0, drawstyle="steps-post")
    if budget_ms is not None:
        axes.axvline(budget_ms, color="black", linestyle="--", linewidth=1, label=f"{budget_ms:g} ms")
    best = recommend(rows, board, budget_ms)
    for row, speed in points:
        if row is best:
            axes.scatter([speed.ms], [row.result.ap or 0.0], s=190, facecolors="none", edgecolors="black", zorder=4)
    axes.margins(0.15)
    if axes.get_legend_handles_labels()[0]:  # else nothing was drawn
        axes.legend(loc="lower right", frameon=False)
    label_points(
        axes,
        [(speed.ms, row.result.ap or 0.0) for row, speed in points],
        [row.result.name for row, _ in points],
        [_COLOURS[row.result.precision] for row, _ in points],
        size=8,
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (milliseconds, AP) that no other point beats in both, in the order of their time."""
    front: list[tuple[float, float]] = []
    for ms, ap in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or ap > front[-1][1]:
            front.append((ms, ap))
    return front
