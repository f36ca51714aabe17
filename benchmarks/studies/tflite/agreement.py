"""Compare an INT8 .tflite file with its dense reference, operator by operator: how many integers differ, by how much.

    python -m edgedet.benchmarks.studies.tflite.agreement my.onnx my_int8.tflite --source photos/ --reference ref.onnx

The reference has the same scales in Q/DQ form and computes in float between Q and DQ, by onnxruntime with its
optimisations off. The scales are read from the .tflite file, so that the comparison is of the file as it is. There are
two comparisons:

- each operator alone, whose inputs are the integers that LiteRT's operators before it computed;
- the whole network, where differences of one operator reach the next ones.

``--reference`` keeps the reference as a file, for ``edgedet eval``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgedet.artifact import ArtifactMeta
from edgedet.benchmarks.profile.tflite_profile import open_interpreter
from edgedet.benchmarks.studies.one_line import ends_in_one_line
from edgedet.benchmarks.studies.tflite.plan import plan_of, reference_of
from edgedet.calibration.placement.plan import CENTRED, DensePlan
from edgedet.engines.tflite_file import read_trailer
from edgedet.errors import InputError, UnsupportedError, require
from edgedet.export.onnx_file import read_graph, write_onnx
from edgedet.export.tflite.writer import tflite_from_graph
from edgedet.files import atomic_path, write_json
from edgedet.preprocess import Preprocessor
from edgedet.stream.sources import open_source

FRAMES = 2
MIN_SHARE = 0.999  # of an operator's elements that are within one level
LOST = (1.0, 0.999, 0.99, 0.95, 0.9, 0.8, 0.7, 0.5)  # shares of equal elements, to show where they fall below


@dataclass(frozen=True)
class Agreement:
    """How an INT8 tensor differs from the reference's; shares in [0, 1].

    name:     the tensor's.
    kind:     the ONNX operator that writes it.
    equal:    share of elements that are the same integer.
    within_1: share of elements that differ by at most one level; within_2: by at most two.
    largest:  the largest difference in levels.
    """

    name: str
    kind: str
    elements: int
    equal: float
    within_1: float
    within_2: float
    largest: int


def compare_tensors(name: str, kind: str, actual: np.ndarray, reference: np.ndarray) -> Agreement:
    """Compare two INT8 arrays."""
    difference = np.abs(actual.astype(np.int16) - reference)
    equal, within_1, within_2 = (float((difference <= levels).mean()) for levels in range(3))
    return Agreement(name, kind, difference.size, equal, within_1, within_2, int(difference.max()))


def integers_of(model: onnx.ModelProto, plan: DensePlan, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Return every INT8 tensor (N, C, H, W) that LiteRT computes, by its name in ONNX; "pixels.centred" is NHWC."""
    flatbuffer, names = tflite_from_graph(model, plan, every_value=True)
    interpreter = open_interpreter(flatbuffer)
    centred = (pixels.astype(np.int16) - 128).astype(np.int8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], centred)
    interpreter.invoke()
    values = {CENTRED: centred}
    for name, details in zip(names, interpreter.get_output_details(), strict=True):
        value = interpreter.get_tensor(details["index"])
        if value.dtype == np.int8 and name in plan.tensors:
            values[name] = np.ascontiguousarray(value.transpose(0, 3, 1, 2))
    return values


def by_operator(dense: onnx.ModelProto, given: Mapping[str, np.ndarray]) -> list[Agreement]:
    """Compare each operator alone: the dense graph is cut at its quantisers, and each part is given LiteRT's integers.

    Pools, resizes and pads move integers, so they are a part of what reads them.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(dense)
    fed: dict[str, np.ndarray] = {}
    for node in cut.graph.node:
        name = node.input[0].removesuffix(".int8")
        if node.op_type == "DequantizeLinear" and name in given:
            node.input[0] = f"{name}.given"
            fed[node.input[0]] = given[name]
    cut.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.INT8, value.shape) for name, value in fed.items()
    )
    return list(_compared(cut, fed, given))


def over_the_network(dense: onnx.ModelProto, pixels: np.ndarray, given: Mapping[str, np.ndarray]) -> list[Agreement]:
    """Compare the whole network, tensor by tensor in its order: differences are handed on."""
    return list(_compared(dense, {}, given, pixels))


def _compared(
    model: onnx.ModelProto,
    fed: Mapping[str, np.ndarray],
    given: Mapping[str, np.ndarray],
    pixels: np.ndarray | None = None,
) -> Iterator[Agreement]:
    ort = require("onnxruntime", "running the dense reference")
    quantisers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    names = [node.output[0].removesuffix(".int8") for node in quantisers]
    names = [name for name in names if name in given and name != CENTRED]
    kinds = {node.output[0]: node.op_type for node in model.graph.node}
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    del graph.graph.output[:]
    graph.graph.output.extend(
        helper.make_tensor_value_info(f"{name}.int8", TensorProto.INT8, given[name].shape) for name in names
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # it warns of inputs that no part reads
    session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (image,) = (value for value in model.graph.input if value.name not in fed)
    if pixels is None:
        pixels = np.zeros([dim.dim_value for dim in image.type.tensor_type.shape.dim], np.uint8)
    results = session.run(None, {**fed, image.name: pixels})
    for name, reference in zip(names, results, strict=True):
        yield compare_tensors(name, kinds[name], given[name], reference)


def merge(pictures: Sequence[Sequence[Agreement]]) -> list[Agreement]:
    """Join the agreements of several pictures, tensor by tensor: mean shares, the largest difference."""
    joined = []
    for same in zip(*pictures, strict=True):
        shares = {key: float(np.mean([getattr(a, key) for a in same])) for key in ("equal", "within_1", "within_2")}
        largest, elements = max(a.largest for a in same), sum(a.elements for a in same)
        joined.append(replace(same[0], **shares, largest=largest, elements=elements))
    return joined


def compare(onnx_path: Path, tflite_path: Path, source: str, frames: int, reference: Path | None) -> dict[str, Any]:
    """Return all figures; writes the reference file if ``reference`` names one."""
    model, _ = read_graph(onnx_path)
    meta, flatbuffer = read_trailer(tflite_path)
    if meta.precision != "int8":
        raise InputError(f"{tflite_path} is {meta.precision}: wanted an INT8 file that `edgedet export --int8` wrote.")
    plan = plan_of(flatbuffer, model)
    dense = reference_of(model, meta, plan)
    if reference is not None:
        _write_reference(dense, meta, reference)
    alone, together = [], []
    with closing(open_source(source, lambda: False)) as opened:
        prepare = Preprocessor(meta.spec)
        for frame in islice(opened, frames):
            pixels = prepare(frame.bgr).pixels.copy()
            given = integers_of(model, plan, pixels)
            _check_same_file(flatbuffer, meta, given, pixels)
            alone.append(by_operator(dense, given))
            together.append(over_the_network(dense, pixels, given))
    if not alone:
        raise InputError(f"{source} holds no picture.")
    operators = merge(alone)
    return {
        "pictures": len(alone),
        "operators": [asdict(item) for item in operators],
        "network": [asdict(item) for item in merge(together)],
        "outputs": list(meta.outputs),
        "below": [item.name for item in operators if item.within_1 < MIN_SHARE],
    }


def _check_same_file(
    flatbuffer: bytes, meta: ArtifactMeta, given: Mapping[str, np.ndarray], pixels: np.ndarray
) -> None:
    """Raise UnsupportedError where the file with all values as outputs computes other integers than the file itself."""
    interpreter = open_interpreter(flatbuffer)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], (pixels ^ 0x80).view(np.int8))
    interpreter.invoke()
    for name, details in zip(meta.outputs, interpreter.get_output_details(), strict=True):
        if not np.array_equal(interpreter.get_tensor(details["index"]).transpose(0, 3, 1, 2), given[name]):
            raise UnsupportedError(f"{name} of the file differs from what its plan, written again, computes.")


def _write_reference(dense: onnx.ModelProto, meta: ArtifactMeta, path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(dense)
    names = tuple(value.name for value in model.graph.output)
    meta = replace(meta, outputs=names, input_layout="uint8 NHWC BGR", report={})
    with atomic_path(path) as temporary:
        write_onnx(model, meta, temporary)


def _print(figures: dict[str, Any]) -> None:
    print(f"each operator alone, {figures['pictures']} pictures")
    print(f"{'operator':<20}{'count':>6}{'elements':>12}{'equal %':>10}{'within 1 %':>12}{'largest':>9}  least equal")
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for item in figures["operators"]:
        by_kind.setdefault(item["kind"], []).append(item)
    for kind, items in by_kind.items():
        worst = min(items, key=lambda item: item["equal"])
        elements = [item["elements"] for item in items]
        equal, within = (
            100 * float(np.average([item[key] for item in items], weights=elements)) for key in ("equal", "within_1")
        )
        print(
            f"{kind:<20}{len(items):>6}{sum(elements):>12}{equal:>10.4f}{within:>12.4f}"
            f"{max(item['largest'] for item in items):>9}  {worst['name']} {100 * worst['equal']:.3f} %"
        )
    print(f"operators with less than {100 * MIN_SHARE} % within 1: {', '.join(figures['below']) or 'none'}\n")
    lost = ", ".join(f"{100 * share:g} %" for share in LOST)
    print(f"the whole network: the first tensors with less than {lost} equal; outputs")
    print(f"{'':<50}{'equal %':>10}{'within 1 %':>12}{'within 2 %':>12}{'largest':>9}")
    network = {item["name"]: item for item in figures["network"]}
    firsts = [next((name for name in network if network[name]["equal"] < share), None) for share in LOST]
    for name in dict.fromkeys([*filter(None, firsts), *figures["outputs"]]):
        item = network[name]
        shown = "".join(f"{100 * item[key]:>{width}.3f}" for key, width in (("equal", 10), ("within_1", 12)))
        print(f"{name:<50}{shown}{100 * item['within_2']:>12.3f}{item['largest']:>9}")


@ends_in_one_line
def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; returns 1 where an operator alone is not within one level."""
    parser = argparse.ArgumentParser(description="Compare an INT8 .tflite file with its dense reference.")
    parser.add_argument("onnx", type=Path, help="float file that it was made from")
    parser.add_argument("tflite", type=Path, help="INT8 file")
    parser.add_argument("--source", required=True, help="pictures: image, folder or video")
    parser.add_argument("--frames", type=int, default=FRAMES, help="number of pictures (default: %(default)s)")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="write the reference, for edgedet eval")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON to FILE, or - for stdout")
    args = parser.parse_args(argv)
    figures = compare(args.onnx, args.tflite, args.source, args.frames, args.reference)
    if args.json != "-":
        _print(figures)
    write_json(args.json, figures)
    return 1 if figures["below"] else 0


if __name__ == "__main__":
    sys.exit(main())
