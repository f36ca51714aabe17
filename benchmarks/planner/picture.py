"""A plan as one picture: milliseconds against AP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgedet.benchmarks.planner.costs import find_own_side
from edgedet.benchmarks.planner.estimate import Estimate
from edgedet.benchmarks.plotting import label_points
from edgedet.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from edgedet.benchmarks.planner.plan import Plan

# Okabe and Ito's colours, which the colour-blind tell apart.
_COLOURS = {"fp32": "#0072B2", "fp16": "#009E73", "int8": "#D55E00"}
_TICKS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000)
_BUDGETS_SHOWN = 15  # rows slower than this many budgets say nothing to who asked


def write_picture(plan: Plan, path: Path) -> None:
    """Draw each row that has an AP with its band, the budget, and the choice; write .png or .svg."""
    figure = draw_plan(plan)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def draw_plan(plan: Plan) -> Figure:
    """Draw the picture: the best model and the runner-up have rings, and their names stand there in any case."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in plan.rows if row.ap.value is not None]
    near = [row for row in rows if row.ms <= _BUDGETS_SHOWN * plan.budget_ms]
    rows = near or rows
    figure = Figure(figsize=(9, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for engine, precision in dict.fromkeys((row.engine, row.precision) for row in rows):
        _draw_series(axes, plan, [row for row in rows if (row.engine, row.precision) == (engine, precision)])
    axes.axvline(plan.budget_ms, color="black", linestyle="--", linewidth=1)
    axes.text(
        plan.budget_ms, 1.01, f"{plan.budget_ms:.1f} ms", transform=axes.get_xaxis_transform(), ha="center", fontsize=9
    )
    _set_axes(axes, plan, rows)
    chosen = {}
    for row, role in ((plan.choice.best, "best"), (plan.choice.runner_up, "runner-up")):
        if row is not None and row in rows:
            axes.scatter([row.ms], [row.ap.value or 0.0], s=190, facecolors="none", edgecolors="black", zorder=4)
            chosen[id(row)] = role
    labelled = sorted(rows, key=lambda row: (id(row) not in chosen, -(row.ap.value or 0.0)))
    label_points(
        axes,
        [(row.ms, row.ap.value or 0.0) for row in labelled],
        [f"{chosen[id(row)]}: {_name(row)}" if id(row) in chosen else _name(row) for row in labelled],
        ["black" if id(row) in chosen else _COLOURS[row.precision] for row in labelled],
        size=8,
    )
    return figure


def _name(row: Estimate) -> str:
    return row.variant if row.side == find_own_side(row.variant) else f"{row.variant}@{row.side}"


def _set_axes(axes: Axes, plan: Plan, rows: list[Estimate]) -> None:
    low, high = min(row.low_ms for row in rows) * 0.8, max(*(row.high_ms for row in rows), plan.budget_ms) * 1.4
    ticks = [tick for tick in _TICKS_MS if low <= tick <= high]
    axes.set(
        xscale="log",
        xlim=(low, high),
        xlabel="ms a picture, network, batch 1 (line: band)",
        ylabel="COCO val2017 AP, official weights",
    )
    axes.margins(y=0.12)
    axes.set_xticks([], minor=True)
    axes.set_xticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    axes.set_title(f"{plan.title}: filled = fits, also at the slow end", pad=20)
    axes.grid(alpha=0.25)
    axes.figure.legend(loc="outside lower center", ncols=3, frameon=False)


def _draw_series(axes: Axes, plan: Plan, rows: list[Estimate]) -> None:
    colour = _COLOURS[rows[0].precision]
    x, y = [row.ms for row in rows], [row.ap.value or 0.0 for row in rows]
    bands = [[row.ms - row.low_ms for row in rows], [row.high_ms - row.ms for row in rows]]
    axes.errorbar(x, y, xerr=bands, fmt="none", ecolor=colour, alpha=0.4, linewidth=1.5)
    axes.scatter(
        x,
        y,
        s=36,
        edgecolors=colour,
        label=f"{rows[0].precision}, {rows[0].engine}, {'/'.join(dict.fromkeys(row.basis for row in rows))}",
        zorder=3,
        facecolors=[colour if plan.fits(row) == "yes" else "white" for row in rows],
    )
