"""The figures of ``edgedet bench`` as text. Knows the JSON's entries; measures nothing."""

from __future__ import annotations

from typing import Any, TextIO

from edgedet.benchmarks.latency import PERCENTILES


def print_table(result: dict[str, Any], text: TextIO) -> None:
    """Print the machine, each model with its stages, and what to doubt."""
    threads = ", ".join(map(str, result["threads"]))
    print(
        f"{result['device']}, {result['cores']} cores, load {result['load_1min'] or 0:.1f}; threads {threads}, "
        f"warm-up {result['warmup']}, {result['frames']} frames in memory, score {result['score']}",
        file=text,
    )
    for row in result["models"]:
        h, w = row["input_hw"]
        weights = f", weights {row['weights']}" if row["weights"] else ""
        print(
            f"\n{row['model']}: {row['name']}, {h}x{w}, {row['precision']}, {row['engine']}, "
            f"threads {row['threads']}{weights}\n"
            f"{row['n']} runs, {row['fps']:.1f} FPS, CPU {row['cpu_ms']:.1f} ms a frame, "
            f"peak RSS {_mb(row['peak_rss_mb'])}, file {row['bytes'] / 1e6:.1f} MB",
            file=text,
        )
        print("stage       " + "".join(f"  p{p:<2} ms  " for p in PERCENTILES).rstrip(), file=text)
        for stage, values in row["ms"].items():
            print(f"{stage:<12}" + "  ".join(f"{value:>7.2f}" for value in values.values()), file=text)
    for warning in result["conditions"]["warnings"]:
        print(f"\nwarning: {warning}", file=text)


def _mb(value: float | None) -> str:
    return "not available" if value is None else f"{value:.0f} MB"
