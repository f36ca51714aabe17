"""Measure the time and memory that quantising takes, for each size of the family.

    python -m edgedet.benchmarks.studies.int8.cost --phi 0-4 --frames 8 --json cost.json

It measures the part of ``edgedet export --int8`` between the float graph and the files, on frames of the demo's clip.
Weights are random (``random_weights``), which changes neither time nor memory. Each model is quantised in a process of
its own, and the JSON file is written after each. ``--docs FILE`` prints the table of docs/int8.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedet import demo
from edgedet.benchmarks.latency.options import parse_numbers
from edgedet.benchmarks.latency.page import fit_growth
from edgedet.benchmarks.studies.one_line import ends_in_one_line
from edgedet.child_process import Child
from edgedet.engines.base import default_threads
from edgedet.errors import InputError
from edgedet.files import write_json
from edgedet.preprocess import Preprocessor
from edgedet.specs import PHI, spec_for


def measure_cost(phi: int, frames: int, recovery: str, threads: int) -> tuple[dict[str, Any], None]:
    """Quantise one model and return its row; runs in a child."""
    import torch

    from edgedet.artifact import ArtifactMeta
    from edgedet.benchmarks.models.random_weights import random_checkpoint
    from edgedet.calibration.graph.macs import count_conv_macs
    from edgedet.calibration.quantise import quantise
    from edgedet.export.checkpoints.checkpoint import network_from_checkpoint
    from edgedet.export.fusion.fuse import graph_from_network

    torch.set_num_threads(threads)
    checkpoint = random_checkpoint(spec_for(PHI[phi]))
    meta = ArtifactMeta(checkpoint.spec, checkpoint.class_names, "fp32", "0" * 64)
    model = graph_from_network(network_from_checkpoint(checkpoint), meta)
    fit = Preprocessor(checkpoint.spec)
    pixels = [fit(bgr).pixels for bgr in demo.clip_frames(frames)]
    before_gb, began_s, began_cpu_s = _peak_gb(), time.perf_counter(), time.process_time()
    quantise(model, checkpoint.spec, pixels, meta.source_sha256, recovery)
    row = {
        "phi": phi,
        "gmacs": sum(count_conv_macs(model).values()) / 1e9,
        "frames": frames,
        "recovery": recovery,
        "threads": threads,
        "seconds": time.perf_counter() - began_s,
        "cpu_seconds": time.process_time() - began_cpu_s,
        "before_gb": before_gb,
        "peak_gb": _peak_gb(),
    }
    return row, None


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as Markdown, and the power of MACs with which time and memory grow."""
    lines = [
        "| model | GMAC | frames | CPU s to quantise | CPU s per GMAC | peak memory, GB |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: float(row["gmacs"])):
        lines.append(
            f"| D{row['phi']} | {row['gmacs']:.1f} | {row['frames']} | {row['cpu_seconds']:.0f} | "
            f"{row['cpu_seconds'] / row['gmacs']:.0f} | {row['peak_gb']:.1f} |"
        )
    if len(rows) > 2:
        gmacs = [row["gmacs"] for row in rows]
        time_power, _ = fit_growth(gmacs, [row["cpu_seconds"] for row in rows])
        memory_power, _ = fit_growth(gmacs, [row["peak_gb"] for row in rows])
        lines += [
            "",
            f"Time grows with MACs to the power {time_power:.2f}, peak memory to the power {memory_power:.2f}.",
        ]
    return "\n".join(lines) + "\n"


@ends_in_one_line
def main(argv: Sequence[str] | None = None) -> int:
    """Measure each model, or print the table of a finished file."""
    parser = argparse.ArgumentParser(
        prog="python -m edgedet.benchmarks.studies.int8.cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--phi", default="0-4", help="0-4 or 0,2 (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=64, help="calibration frames (default: %(default)s)")
    parser.add_argument("--recover", default="fast", choices=("none", "fast", "full"))
    parser.add_argument("--threads", type=int, default=default_threads(), help="(default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="where the rows are kept")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="print the table of this file")
    args = parser.parse_args(argv)
    if args.docs:
        print(table(json.loads(args.docs.read_text(encoding="utf-8"))["rows"]), end="")
        return 0
    if args.frames < 1 or args.threads < 1:
        raise InputError("--frames and --threads take numbers from 1 on.")
    rows = []
    for phi in parse_numbers("--phi", args.phi):
        if phi not in PHI:
            raise InputError(f"--phi takes {min(PHI)} to {max(PHI)}; got {phi}.")
        with Child(measure_cost, phi, args.frames, args.recover, args.threads) as child:
            rows.append(child.first())
        write_json(args.json, {"rows": rows})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(table(rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
