"""Print a plan in words: the table, what its rows are based on, and the choice."""

from __future__ import annotations

import textwrap
from typing import TextIO

from edgedet.benchmarks.planner.boards import OFFICIAL
from edgedet.benchmarks.planner.estimate import Estimate
from edgedet.benchmarks.planner.plan import Plan
from edgedet.engines.table import engine_named

LINE = 110


def print_plan(plan: Plan, text: TextIO) -> None:
    """Print the table, what its rows are based on, and the choice."""
    memory = "" if plan.ram_gb is None else f", {plan.ram_gb:g} GB"
    on_gpu = all(engine_named(row.engine).hardware == "GPU" for row in plan.rows)
    threads = "" if on_gpu else f", {plan.threads} threads"
    print(f"{plan.title}{memory}{threads}: {plan.budget_ms:.1f} ms for the network ({_fps(plan.budget_ms)})", file=text)
    print("", file=text)
    print("model     size  precision    ms     band             fits       AP    MB   basis", file=text)
    whys = list(dict.fromkeys(row.why for row in plan.rows))
    for row in sorted(plan.rows, key=lambda row: (row.engine, row.precision, row.ms)):
        band = f"{_ms(row.low_ms)} to {_ms(row.high_ms)}"
        print(
            f"{row.variant:<8}{row.side:>6}  {row.precision:<5}{row.engine:<6}{_ms(row.ms):>7}  {band:<16} "
            f"{plan.fits(row):<9}{_ap(row):>5} {row.memory_mb:>6.0f}   {row.basis} ({whys.index(row.why) + 1})",
            file=text,
        )
    print("", file=text)
    for number, why in enumerate(whys, 1):
        _wrapped(f"({number}) {why}.", text)
    for note in dict.fromkeys(row.ap.note for row in plan.rows if row.ap.note != OFFICIAL):
        _wrapped(f"AP: {note}.", text)
    for note in plan.notes:
        _wrapped(f"note: {note}.", text)
    print("", file=text)
    _wrapped(describe_choice(plan), text)


def describe_choice(plan: Plan) -> str:
    """Return the best choice and the runner-up, or what comes nearest."""
    choice = plan.choice
    if choice.best is None:
        near = choice.nearest
        return (
            f"Nothing fits {plan.budget_ms:.1f} ms. Nearest: {_model(near)}, {_ms(near.ms)} ms "
            f"({_ms(near.low_ms)} to {_ms(near.high_ms)}), AP {_ap(near)}."
        )
    lines = [f"Best: {_told(choice.best)}{'' if choice.certain else ', likely but not sure'}."]
    if choice.runner_up is not None:
        sure = "" if plan.fits(choice.runner_up) == "yes" else ", likely but not sure: measure it"
        lines.append(f"Runner-up: {_told(choice.runner_up)}{sure}.")
    return " ".join(lines)


def _told(row: Estimate) -> str:
    return (
        f"{_model(row)}, {_ms(row.ms)} ms ({_ms(row.low_ms)} to {_ms(row.high_ms)}, {row.basis}), "
        f"{_fps(row.ms)}, AP {_ap(row)}, {row.memory_mb:.0f} MB"
    )


def _model(row: Estimate) -> str:
    return f"{row.variant} {row.precision} at {row.side}x{row.side} ({row.engine})"


def _ap(row: Estimate) -> str:
    return "-" if row.ap.value is None else f"{row.ap.value:.1f}"


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _fps(ms: float) -> str:
    return f"{1e3 / ms:.1f} FPS" if ms > 20 else f"{1e3 / ms:.0f} FPS"


def _wrapped(line: str, text: TextIO) -> None:
    print("\n".join(textwrap.wrap(line, LINE, subsequent_indent="    ")), file=text)
