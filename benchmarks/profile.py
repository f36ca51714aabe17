"""``edgedet bench --profile``: where the network's time goes, beside what the work must cost on this machine.

onnxruntime's own profiler gives each node's time. What a node costs is ``layer_costs``; the roofline bound (Williams et
al. 2009) of a node is the larger of its MACs by this machine's peak and its bytes by its memory's speed, both measured
here, in numpy: a large matrix product, and a copy. LiteRT's profiler sums by its own operator names and knows no nodes.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedet.benchmarks.children import Child
from edgedet.errors import EdgeDetError, UnsupportedError, require

if TYPE_CHECKING:
    from edgedet.benchmarks.layer_costs import LayerCost

GEMM_SIDE = 1536  # 3.6 GMAC: large enough for any CPU's blocking, some tens of ms on one core
COPY_BYTES = 64 << 20  # beyond the caches of boards and PCs
REPEATS = 5  # the best counts: a peak is what the machine can do
WARMUP = 3
MOST_RUNS = 30  # of a profile; its file holds each node of each run
_KERNEL = "_kernel_time"
# what onnxruntime adds to our graph: kinds of nodes, by its names (onnxruntime/core/optimizer/nchwc_transformer.cc)
_ADDED = {"ReorderInput": "layout (onnxruntime's own)", "ReorderOutput": "layout (onnxruntime's own)"}
OTHER = "other"


@dataclass(frozen=True)
class Peaks:
    """What one process of this machine reaches: GMAC/s of a float32 matrix product, GB/s read and written by a copy."""

    gmacs_per_s: float
    gb_per_s: float


def measured_peaks(threads: int) -> Peaks:
    """Measure both in a process of its own, whose matrix products have ``threads`` threads."""
    # numpy's libraries read these when they are loaded
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    try:
        with Child(_measure_peaks) as child:
            peaks: Peaks = child.first()
            return peaks
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _measure_peaks() -> tuple[Peaks, None]:
    a = np.random.default_rng(0).random((GEMM_SIDE, GEMM_SIDE), dtype=np.float32)
    out = np.empty_like(a)
    source, target = np.ones(COPY_BYTES, np.uint8), np.zeros(COPY_BYTES, np.uint8)
    product_s = min(_seconds(lambda: np.matmul(a, a, out=out)) for _ in range(REPEATS))
    copy_s = min(_seconds(lambda: np.copyto(target, source)) for _ in range(REPEATS))
    return Peaks(GEMM_SIDE**3 / product_s / 1e9, 2 * COPY_BYTES / copy_s / 1e9), None


def _seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def add_profiles(result: dict[str, Any], runs: int) -> list[str]:
    """Add ``profile`` to each entry that can have one; return what failed."""
    failures = []
    peaks: dict[int, Peaks] = {}
    for entry in result["models"]:
        threads = entry["threads"]
        try:
            if threads not in peaks:
                peaks[threads] = measured_peaks(threads)
            entry["profile"] = profile_of(Path(entry["model"]), threads, peaks[threads], min(runs, MOST_RUNS))
        except EdgeDetError as error:
            failures.append(f"profile of {entry['model']}: {error}".rstrip("."))
    return failures


def profile_of(model: Path, threads: int, peaks: Peaks, runs: int) -> dict[str, Any]:
    """Return the profile of one file; raises UnsupportedError for formats and engines that have none."""
    note = (
        f"{threads} threads; peak {peaks.gmacs_per_s:.0f} GMAC/s by a float32 product of {GEMM_SIDE} x {GEMM_SIDE} "
        f"matrices, {peaks.gb_per_s:.1f} GB/s by a copy of {COPY_BYTES >> 20} MB, both by numpy, best of {REPEATS}"
    )
    if model.suffix == ".onnx":
        from edgedet.benchmarks.layer_costs import layer_costs

        graph = require("onnx", "edgedet bench --profile").load(model)
        with Child(_run_ort, str(model), threads, runs) as child:
            times_ms, kinds = child.first()
        costs = {layer.name: layer for layer in layer_costs(graph)}
        return {"note": note, **vars(peaks), **assigned(times_ms, kinds, costs, peaks)}
    if model.suffix == ".tflite":
        if threads != 1:
            raise UnsupportedError("LiteRT's operators are timed on one thread: --threads 1")
        with Child(_run_tflite, str(model), runs) as child:
            times = child.first()
        rows = [_item(name, ms, sum(times.values())) for name, ms in sorted(times.items(), key=lambda item: -item[1])]
        return {"note": f"LiteRT's own operators; {note}", **vars(peaks), "by_class": rows, "by_part": []}
    raise UnsupportedError(f"there is no profile of {model.suffix} files (TensorRT's trtexec has --dumpProfile)")


def _run_ort(model: str, threads: int, runs: int) -> tuple[tuple[dict[str, float], dict[str, str]], None]:
    """Return median milliseconds and operator of each node, as onnxruntime names them after its own fusions."""
    ort = require("onnxruntime", "edgedet bench --profile")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as edgedet/engines/ort.py
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        (pixels,) = session.get_inputs()
        picture = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
        for _ in range(WARMUP + runs):
            session.run(None, {pixels.name: picture})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times, kinds = defaultdict(list), {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            name = event["name"].removesuffix(_KERNEL)
            times[name].append(event["dur"] / 1e3)
            kinds[name] = event["args"]["op_name"]
    return ({name: float(np.median(values[WARMUP:])) for name, values in times.items()}, kinds), None


def _run_tflite(model: str, runs: int) -> tuple[dict[str, float], None]:
    from edgedet.benchmarks.tflite_profile import Profile

    profile = Profile(Path(model))
    turns = [profile.run() for _ in range(runs)]
    return {name: float(np.median([turn.get(name, 0.0) for turn in turns])) for name in turns[-1]}, None


def assigned(
    times_ms: Mapping[str, float], kinds: Mapping[str, str], costs: Mapping[str, LayerCost], peaks: Peaks
) -> dict[str, Any]:
    """Return times and costs by op class and by part of the network.

    times_ms: of the nodes as they ran. A node that the runtime fused of several carries the name of one: its time is
    of that one's class, and the costs of those that vanished (a swish's Sigmoid) are added to their class anyway.
    """
    class_ms: dict[str, float] = defaultdict(float)
    part_ms: dict[str, float] = defaultdict(float)
    for name, ms in times_ms.items():
        layer = layer_of(name, costs)
        added = _ADDED.get(kinds[name], OTHER)
        class_ms[layer.op_class if layer else added] += ms
        part_ms[layer.part if layer else added] += ms
    total = sum(times_ms.values())
    return {
        key: [
            _item(name, ms, total, [layer for layer in costs.values() if getattr(layer, field) == name], peaks)
            for name, ms in sorted(found.items(), key=lambda item: -item[1])
        ]
        for key, field, found in (("by_class", "op_class", class_ms), ("by_part", "part", part_ms))
    }


def layer_of(name: str, costs: Mapping[str, LayerCost]) -> LayerCost | None:
    """Return the layer that a runtime's node came from: "x_nchwc" from x, "x/QuickGeluFusion/" from x; else None."""
    for candidate in (name, name.removesuffix("_nchwc"), name.split("/")[0], name.split("_token_")[0]):
        if candidate in costs:
            return costs[candidate]
    return None


def bound_ms(layer: LayerCost, peaks: Peaks) -> float:
    """Return the roofline bound of a layer that is run by itself, everything read and written once."""
    return max(layer.macs / peaks.gmacs_per_s, layer.bytes_moved / peaks.gb_per_s) / 1e6


def _item(
    name: str, ms: float, total_ms: float, layers: Iterable[LayerCost] = (), peaks: Peaks | None = None
) -> dict[str, Any]:  # fmt: skip
    layers = list(layers)
    bound = sum(bound_ms(layer, peaks) for layer in layers) if peaks and layers else None
    return {
        "name": name,
        "ms": ms,
        "share": ms / total_ms,
        "gmacs": sum(layer.macs for layer in layers) / 1e9 if layers else None,
        "mb": sum(layer.bytes_moved for layer in layers) / 1e6 if layers else None,
        "bound_ms": bound,
        "of_bound": bound / ms if bound and ms else None,
    }
