"""Draw the event recall over the number of cameras.

python -m edgedet.benchmarks.studies.cameras.plot OUT.png A.json ...
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")


def main(out: str, *files: str) -> None:
    """Write the picture."""
    from matplotlib import pyplot

    curves: dict[tuple[bool, float], list[tuple[int, float]]] = defaultdict(list)
    for file in files:
        for row in json.loads(Path(file).read_text())["rows"]:
            curves[row["gate"], row["busy"]].append((row["cameras"], 100 * row["recalled"] / max(row["events"], 1)))
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for (gate, busy), points in sorted(curves.items()):
        label = f"{'with' if gate else 'without'} --motion, {busy:.0%} of the time busy"
        axes.plot(*zip(*sorted(points), strict=True), "o-" if gate else "x--", label=label)
    axes.axhline(99, color="grey", linewidth=0.8)
    axes.set(xlabel="cameras, 5 frames a second each", ylabel="events recalled, %", ylim=(85, 100.5), xscale="log")
    ticks = (1, 2, 4, 8, 16, 32, 64)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
