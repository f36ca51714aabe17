"""A plan as one picture: milliseconds against AP. Knows matplotlib; knows no board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedet.benchmarks.planner.costs import own_side
from edgedet.benchmarks.planner.estimate import Estimate
from edgedet.files import atomic_path

if TYPE_CHECKING:
    from edgedet.benchmarks.planner.plan import Plan

# Okabe and Ito's colours, which the colour-blind tell apart.
_COLOURS = {"fp32": "#0072B2", "fp16": "#009E73", "int8": "#D55E00"}
_TICKS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000)
# Rows slower than this many budgets say nothing to who asked.
_BUDGETS_SHOWN = 15


def write_picture(plan: Plan, path: Path) -> None:
    """Draw each row that has an AP with its band, the budget, and the choice; write .png or .svg."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in plan.rows if row.ap.value is not None]
    near = [row for row in rows if row.ms <= _BUDGETS_SHOWN * plan.budget_ms]
    rows = near or rows
    figure, axes = pyplot.subplots(figsize=(9, 5.5), dpi=120)
    for engine, precision in dict.fromkeys((row.engine, row.precision) for row in rows):
        _draw(axes, plan, [row for row in rows if (row.engine, row.precision) == (engine, precision)])
    axes.axvline(plan.budget_ms, color="black", linestyle="--", linewidth=1)
    axes.text(
        plan.budget_ms, 1.01, f"{plan.budget_ms:.1f} ms", transform=axes.get_xaxis_transform(), ha="center", fontsize=9
    )
    for row, label in ((plan.choice.best, "best"), (plan.choice.runner_up, "runner-up")):
        if row in rows and row is not None:
            axes.scatter([row.ms], [row.ap.value], s=190, facecolors="none", edgecolors="black", zorder=4)
            axes.annotate(
                label, (row.ms, float(row.ap.value or 0)), textcoords="offset points", xytext=(-8, 10), ha="right"
            )
    axes.set_xscale("log")
    low, high = min(row.low_ms for row in rows) * 0.8, max(*(row.high_ms for row in rows), plan.budget_ms) * 1.4
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in _TICKS_MS if low <= tick <= high])
    axes.set_xticks([], minor=True)
    axes.set_xticklabels([f"{tick:,}" for tick in _TICKS_MS if low <= tick <= high])
    axes.set_xlabel("ms a picture, network, batch 1 (line: band)")
    axes.set_ylabel("COCO val2017 AP, official weights")
    axes.set_title(f"{plan.title}: filled = fits, also at the slow end", pad=20)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight")
    pyplot.close(figure)


def _draw(axes: Any, plan: Plan, rows: list[Estimate]) -> None:
    colour = _COLOURS[rows[0].precision]
    x, y = [row.ms for row in rows], [row.ap.value for row in rows]
    bands = [[row.ms - row.low_ms for row in rows], [row.high_ms - row.ms for row in rows]]
    label = f"{rows[0].precision}, {rows[0].engine}, {'/'.join(dict.fromkeys(row.basis for row in rows))}"
    axes.errorbar(x, y, xerr=bands, fmt="none", ecolor=colour, alpha=0.4, linewidth=1.5)
    axes.scatter(
        x, y, s=36, edgecolors=colour, label=label, zorder=3,
        facecolors=[colour if plan.fits(row) == "yes" else "white" for row in rows],
    )  # fmt: skip
    left = rows[0].precision == "int8"  # names of the slower precisions stand on the other side
    for row in rows:
        axes.annotate(
            row.variant if row.side == own_side(row.variant) else f"{row.variant}@{row.side}", (row.ms, row.ap.value),
            textcoords="offset points", xytext=(-4, 4) if left else (4, -10), ha="right" if left else "left",
            fontsize=7, color=colour,
        )  # fmt: skip
