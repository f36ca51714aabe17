"""Write the planner's errors as tables into docs/planning.md, and fit its constants to the published figures again.

    python -m edgedet.benchmarks.studies.planner_tables --docs docs/planning.md

Fits constants.json first. In the document, each table stands between "<!-- table: NAME -->" and "<!-- end -->".
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from edgedet.benchmarks.planner.boards import read_boards, read_other_networks, read_sources
from edgedet.benchmarks.planner.estimate import SCALED_PAIRS, compute_scaling_errors
from edgedet.benchmarks.planner.fit import (
    BASE,
    CONSTANTS,
    PRIORS,
    SAME_BLOCKS,
    compute_board_errors,
    compute_scaled_ratio,
    estimate_speed_up,
    list_measured_groups,
    list_points,
    read_fits,
    write_constants,
)
from edgedet.benchmarks.planner.memory import compute_memory_errors, factors_of
from edgedet.benchmarks.planner.model import compute_left_out_errors
from edgedet.errors import InputError
from edgedet.files import atomic_path


def fits_table() -> str:
    """Return the constants of each board, and the errors of models that were left out."""
    rows = []
    for (name, precision), fit in read_fits().items():
        board, c = read_boards()[name], fit.constants
        rows.append(
            (
                board.title,
                precision,
                board.engine,
                fit.figures,
                f"{c.dense:.2f}",
                f"{c.depthwise:.3f}",
                f"{c.bytes:.2f}",
                f"{c.layer:.0f}",
                _percent(fit.rms),
                _percent(fit.worst),
            )
        )
    head = "board, precision, engine, figures, dense, depthwise, bytes, us a layer, rms, worst"
    return _read_table(head, rows)


def models_table() -> str:
    """Return, for each model, its signed errors by constants of the other models: one row a model, one column a fit.

    Of several numbers of threads the worst is given.
    """
    groups = list_measured_groups()
    errors_by_variant: dict[str, dict[int, float]] = {}
    for number, (board, precision) in enumerate(groups):
        for point, error in compute_left_out_errors(list_points(board, precision), PRIORS[precision]):
            errors = errors_by_variant.setdefault(point.variant, {})
            errors[number] = max(errors.get(number, 0.0), error, key=abs)
    head = "model, " + ", ".join(f"{board.name} {precision}" for board, precision in groups)
    rows = [
        (variant, *(_signed(errors[number]) if number in errors else "" for number in range(len(groups))))
        for variant, errors in errors_by_variant.items()
    ]
    return _read_table(head, rows)


def boards_table() -> str:
    """Return, for each board, the errors of constants that were fitted to the other boards of its family."""
    rows = []
    for family, precision in (("arm-cpu", "fp32"), ("arm-cpu", "int8")):
        for board, errors in compute_board_errors(family, precision):
            mean = sum(errors) / len(errors)
            rows.append((board.title, precision, len(errors), _signed(mean), _signed(max(errors, key=abs))))
    return _read_table("board left out, precision, figures, mean, worst", rows)


def speedups_table() -> str:
    """Return how much faster other networks are on each Jetson, and how well the others predict one of them."""
    rows = []
    for name in dict.fromkeys(name for times in read_other_networks().values() for name in times if name != BASE):
        faster = estimate_speed_up(name)
        if faster is None:
            continue
        errors = []
        for network in SAME_BLOCKS:
            others, times = estimate_speed_up(name, without=network), read_other_networks()[network]
            if others is not None:
                errors.append(math.log(times[BASE] / others.middle / times[name]))
        rows.append(
            (
                read_boards()[name].title,
                f"{faster.middle:.1f}",
                f"{faster.slowest:.1f}",
                f"{faster.fastest:.1f}",
                _signed(max(errors, key=abs)),
            )
        )
    return _read_table("board, same blocks, the slowest, of all the fastest, worst network left out", rows)


def scaling_table() -> str:
    """Return how well data sheets predict the ratio between two boards of one kind that were both measured."""
    rows = []
    for faster, like in SCALED_PAIRS:
        known = read_boards()
        errors = compute_scaling_errors(faster, like)
        rows.append(
            (
                known[like].title,
                known[faster].title,
                f"{compute_scaled_ratio(known[faster], known[like]):.2f}",
                len(errors),
                _signed(sum(errors) / len(errors)),
                _signed(max(errors, key=abs)),
            )
        )
    return _read_table("from, to, ratio, figures, mean, worst", rows)


def memory_table() -> str:
    """Return the factors of each engine and their errors."""
    rows = []
    for engine in ("tflite", "trt"):
        errors, factors = compute_memory_errors(engine), factors_of(engine)
        rows.append((engine, len(errors), *(f"{x:.2f}" for x in factors), f"{100 * max(map(abs, errors)):.0f} %"))
    return _read_table("engine, footprints, weights, activations, float outputs, worst", rows)


def sources_list() -> str:
    """Return the sources as a list."""
    lines = [f"- {item.where}: {item.version or ''}; {item.includes}." for item in read_sources().values()]
    return "\n".join(line.replace(": ; ", ": ") for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "fits": fits_table,
    "models": models_table,
    "boards": boards_table,
    "speed-ups": speedups_table,
    "scaling": scaling_table,
    "memory": memory_table,
    "sources": sources_list,
}


def with_tables(document: str) -> str:
    """Return the document with each of its tables made again; raises InputError where one is missing."""
    for name, make in TABLES.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(\n<!-- end -->)"
        if not re.search(pattern, document, re.DOTALL):
            raise InputError(f'the document has no "<!-- table: {name} -->" with an "<!-- end -->" behind it.')
        made = make()
        document = re.sub(pattern, _between(made), document, flags=re.DOTALL)
    return document


def _between(text: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{match[1]}{text}{match[2]}"


def _read_table(head: str, rows: Iterable[Sequence[object]]) -> str:
    names = head.split(", ")
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _percent(log_error: float) -> str:
    return f"{100 * (math.exp(log_error) - 1):.1f} %"


def _signed(log_error: float) -> str:
    return f"{100 * (math.exp(log_error) - 1):+.0f} %"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the constants, and the tables into the document or to stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, metavar="FILE", help="document to write the tables into (default: stdout)")
    args = parser.parse_args(argv)
    write_constants(CONSTANTS)
    read_fits.cache_clear()
    if args.docs is None:
        print("\n\n".join(f"{name}\n\n{make()}" for name, make in TABLES.items()))
        return 0
    document = with_tables(args.docs.read_text(encoding="utf-8"))
    with atomic_path(args.docs) as temporary:
        temporary.write_text(document, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
