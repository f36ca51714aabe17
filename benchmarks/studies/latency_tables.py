"""Print ``edgedet bench --json`` as Markdown: ``python -m edgedet.benchmarks.studies.latency_tables A.json ...``.

docs/benchmarks.md contains the tables that this prints for docs/benchmarks-*.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from edgedet.benchmarks.latency.page import fit_growth
from edgedet.benchmarks.latency.result import BenchResult, ModelResult, read_result

MIN_MODELS = 3  # that an exponent needs


def document(result: BenchResult) -> str:
    """Return the conditions, the table, and the power of MACs with which time and memory grow."""
    conditions = result.conditions
    features = f" with {', '.join(conditions.cpu_features)}" if conditions.cpu_features else ""
    lines = [
        f"{result.device.cpu or result.device.device}{features}, {result.device.cores} cores, {result.device.os}, "
        f"Python {result.device.python}; commit {conditions.commit}; {conditions.others_cores} cores busy with other "
        f"programs meanwhile; {result.frames} frames of {'x'.join(map(str, result.frame_hw))} in memory, "
        f"score {result.score}, warm-up {result.warmup}.",
        "",
        "| model | input | file | engine | threads | runs | network p50 | end to end p50 | p90 | p99 | FPS | GMAC | "
        "GMAC/s | file MB | peak RSS MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result.models:
        end_to_end = row.ms["end to end"]
        cells = [
            row.name.removeprefix("tf_efficientdet_"),
            "x".join(map(str, row.input_hw)),
            _kind(row),
            row.engine,
            str(row.threads),
            str(row.n),
            f"{row.ms['network']['p50']:.1f}",
            *(f"{end_to_end[name]:.1f}" for name in ("p50", "p90", "p99")),
            f"{row.fps:.2f}",
            "" if row.macs is None else f"{row.macs / 1e9:.2f}",
            "" if row.gmacs_per_s is None else f"{row.gmacs_per_s:.1f}",
            f"{row.bytes / 1e6:.1f}",
            "" if row.peak_rss_mb is None else f"{row.peak_rss_mb:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for kind in dict.fromkeys(_kind(row) for row in result.models):
        rows = [row for row in result.models if _kind(row) == kind and row.macs]
        if len({row.macs for row in rows}) < MIN_MODELS:
            continue
        macs = [row.macs or 0 for row in rows]
        power, error = fit_growth(macs, [row.ms["network"]["p50"] for row in rows])
        line = f"- {kind}: time grows with MACs to the power {power:.2f}, each model within {100 * error:.0f} %"
        if all(row.peak_rss_mb for row in rows):
            power, error = fit_growth(macs, [row.peak_rss_mb or 0.0 for row in rows])
            line += f"; peak memory to the power {power:.2f}, within {100 * error:.0f} %"
        lines.append(f"{line}.")
    return "\n".join(lines) + "\n"


def _kind(row: ModelResult) -> str:
    return f"{row.precision} {Path(row.model).suffix}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print a section for each file."""
    names = sys.argv[1:] if argv is None else argv
    print("\n".join(document(read_result(Path(name))) for name in names), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
