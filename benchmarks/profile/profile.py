"""``edgedet bench --profile``: where the network's time goes, beside what the work must cost on this machine.

The engines' own profilers give the time of each operator as it ran: what an engine fused is one. Its bytes are those of
its inputs, weights and outputs, each once; its roofline is the larger of its MACs by the engine's peak and its bytes by
the memory's speed (``peaks``), measured in the same process just before.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedet.benchmarks.profile.peaks import COPY_BYTES, REPEATS, SIDE, Peaks, measure_ort_peaks, measure_tflite_peaks
from edgedet.child_process import Child
from edgedet.errors import UnsupportedError, require

if TYPE_CHECKING:
    from edgedet.benchmarks.profile.layer_costs import LayerCost

WARMUP = 3
MOST_RUNS = 30  # of a profile; its file holds each node of each run
_KERNEL = "_kernel_time"
# what onnxruntime adds to our graph: kinds of nodes, by its names (onnxruntime/core/optimizer/nchwc_transformer.cc)
_ADDED = {"ReorderInput": "layout (onnxruntime's own)", "ReorderOutput": "layout (onnxruntime's own)"}
OTHER = "other"
CACHE_NOTE = (
    "Bytes are an operator's inputs, weights and outputs, each once; tensors that a cache still holds need not come "
    "from memory, so what is small can be faster than its roofline."
)


@dataclass(frozen=True)
class OperatorRun:
    """One operator as it ran; ``macs`` and ``moved`` (bytes) are None where the engine does not tell."""

    op_class: str
    part: str
    ms: float
    macs: int | None
    moved: int | None


@dataclass(frozen=True)
class GroupCost:
    """All operators of one op class or of one part of the network.

    share:       of all operators' time.
    gmacs, mb:   1e9 multiply-accumulates, and megabytes of inputs, weights and outputs.
    roofline_ms: sum of the operators' rooflines. of_roofline: that divided by ``ms``.
    The latter four are None where the engine does not tell.
    """

    name: str
    operators: int
    ms: float
    share: float
    gmacs: float | None
    mb: float | None
    roofline_ms: float | None
    of_roofline: float | None


@dataclass(frozen=True)
class Profile:
    """Where the time of one model goes.

    note:    how it was measured.
    gmacs_per_s, gb_per_s, product: the engine's ``Peaks``.
    by_class, by_part: the longest first.
    """

    note: str
    gmacs_per_s: float
    gb_per_s: float
    product: str
    by_class: list[GroupCost]
    by_part: list[GroupCost]


def profile_model(model: Path, threads: int, runs: int) -> Profile:
    """Return the profile of one file; raises UnsupportedError for formats and engines that have none."""
    run = {".onnx": _run_ort, ".tflite": _run_tflite}.get(model.suffix)
    if run is None:
        raise UnsupportedError(f"there is no profile of {model.suffix} files (TensorRT's trtexec has --dumpProfile)")
    with Child(run, model, threads, min(runs, MOST_RUNS)) as child:
        ran, peaks, note = child.first()
    note = (
        f"threads {threads}; {note}; peaks of the engine's own, best of {REPEATS}: {peaks.gmacs_per_s:.0f} GMAC/s by a "
        f"{peaks.product} product of {SIDE} x {SIDE} matrices, {peaks.gb_per_s:.1f} GB/s by a ReLU of "
        f"{COPY_BYTES >> 20} MB. {CACHE_NOTE}"
    )
    return Profile(
        note,
        **vars(peaks),
        by_class=sum_costs(ran, peaks, lambda operator: operator.op_class),
        by_part=sum_costs(ran, peaks, lambda operator: operator.part),
    )


def _run_ort(model: Path, threads: int, runs: int) -> tuple[tuple[list[OperatorRun], Peaks, str], None]:
    """Run in a child; times are medians."""
    from edgedet.benchmarks.profile.layer_costs import compute_layer_costs
    from edgedet.export.fusion.open_batch import close_batch

    ort, onnx = (require(module, "edgedet bench --profile") for module in ("onnxruntime", "onnx"))
    costs = {layer.name: layer for layer in compute_layer_costs(close_batch(onnx.load(model)))}
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as edgedet/engines/ort.py
    peaks = measure_ort_peaks(options)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        (pixels,) = session.get_inputs()
        picture = np.random.default_rng(0).integers(0, 256, (1, *pixels.shape[1:]), dtype=np.uint8)
        for _ in range(WARMUP + runs):
            session.run(None, {pixels.name: picture})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return (runs_from_events(events, costs), peaks, f"median of {runs} runs"), None


def runs_from_events(events: Iterable[Mapping[str, Any]], costs: Mapping[str, LayerCost]) -> list[OperatorRun]:
    """Return onnxruntime's operators from its profile of ``WARMUP`` and more runs.

    Names are not unique, for its own nodes have none; their numbers are.
    """
    times, last = defaultdict(list), {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            number = event["args"]["node_index"]
            times[number].append(event["dur"] / 1e3)
            last[number] = event
    operators = []
    for number, event in last.items():
        layer, args = find_layer(_without_end(event["name"], _KERNEL), costs), event["args"]
        added = _ADDED.get(args["op_name"], OTHER)
        sizes = [args.get(name) for name in ("activation_size", "parameter_size", "output_size")]
        operators.append(
            OperatorRun(
                layer.op_class if layer else added,
                layer.part if layer else added,
                float(np.median(times[number][WARMUP:])),
                _macs(layer, costs) if args["op_name"].endswith("Conv") else 0,
                None if None in sizes else sum(map(int, sizes)),
            )
        )
    return operators


def _macs(layer: LayerCost | None, costs: Mapping[str, LayerCost]) -> int | None:
    """Return a convolution's MACs; one with a fused activation bears its name, which stands right behind it."""
    macs = 0
    for known in costs.values():
        macs = known.macs or macs
        if known is layer:
            return macs
    return None


def find_layer(name: str, costs: Mapping[str, LayerCost]) -> LayerCost | None:
    """Return the layer that a runtime's node came from: "x_nchwc" from x, "x/QuickGeluFusion/" from x; else None."""
    for candidate in (name, _without_end(name, "_nchwc"), name.split("/")[0], name.split("_token_")[0]):
        if candidate in costs:
            return costs[candidate]
    return None


def _run_tflite(model: Path, threads: int, runs: int) -> tuple[tuple[list[OperatorRun], Peaks, str], None]:
    """Run in a child; times are means, because LiteRT sums up."""
    from edgedet.benchmarks.profile.layer_costs import find_part
    from edgedet.benchmarks.profile.tflite_nodes import match_times, read_operators
    from edgedet.benchmarks.profile.tflite_profile import Profile
    from edgedet.engines.tflite_file import read_trailer

    meta, flatbuffer = read_trailer(model)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # LiteRT tells of each accelerator that is not here
    peaks = measure_tflite_peaks(threads, meta.precision == "int8")
    profile = Profile(model, threads)
    for _ in range(runs):
        profile.run()
    rows, note = profile.rows(), f"mean of {runs} runs"
    timed = match_times(
        read_operators(flatbuffer), rows, lambda operator: peaks.roofline_ms(operator.macs, operator.moved)
    )
    if timed is None:
        ran = [OperatorRun(kind, "", ms, None, None) for (kind, _), (ms, _) in rows.items()]
        return (ran, peaks, f"{note}; LiteRT ran other operators than the file holds, so neither parts nor costs"), None
    note += "; operators of the same kind and place in several of XNNPACK's partitions are one to LiteRT, divided here"
    ran = [OperatorRun(item.op_class, find_part(item.name), ms, item.macs, item.moved) for item, ms in timed]
    return (ran, peaks, note), None


def sum_costs(ran: Sequence[OperatorRun], peaks: Peaks, group_of: Callable[[OperatorRun], str]) -> list[GroupCost]:
    """Return times and costs of each group, the longest first; operators whose group is "" are left out."""
    total_ms = sum(operator.ms for operator in ran)
    groups: dict[str, list[OperatorRun]] = defaultdict(list)
    for operator in ran:
        groups[group_of(operator)].append(operator)
    costs = [_cost_of(name, operators, total_ms, peaks) for name, operators in groups.items() if name]
    return sorted(costs, key=lambda cost: -cost.ms)


def _cost_of(name: str, operators: Sequence[OperatorRun], total_ms: float, peaks: Peaks) -> GroupCost:
    ms = sum(operator.ms for operator in operators)
    costs = [(operator.macs, operator.moved) for operator in operators]
    known = [(macs, moved) for macs, moved in costs if macs is not None and moved is not None]
    is_known = len(known) == len(costs)
    roofline_ms = sum(peaks.roofline_ms(macs, moved) for macs, moved in known) if is_known else None
    return GroupCost(
        name=name,
        operators=len(operators),
        ms=ms,
        share=ms / total_ms,
        gmacs=sum(macs for macs, _ in known) / 1e9 if is_known else None,
        mb=sum(moved for _, moved in known) / 1e6 if is_known else None,
        roofline_ms=roofline_ms,
        of_roofline=roofline_ms / ms if roofline_ms is not None and ms else None,
    )


def _without_end(text: str, end: str) -> str:
    """Return the text without this end, if it has it; str.removesuffix is Python 3.9's."""
    return text[: -len(end)] if text.endswith(end) else text
