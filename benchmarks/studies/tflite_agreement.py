"""An INT8 .tflite file beside its dense reference, operator by operator: who differs, by how many levels.

    python -m edgedet.benchmarks.studies.tflite_agreement my.onnx my_int8.tflite --source photos/ --reference ref.onnx

The reference is the same plan of scales in Q/DQ form, floats between Q and DQ, by onnxruntime with its optimisations
off. The plan is read out of the .tflite file, so that what is judged is the file as it is shipped. Two comparisons:

- each operator alone, given the integers that LiteRT's operators before it computed;
- the whole network, where differences are handed on.

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

from edgedet.artifact import META_KEY, ArtifactMeta
from edgedet.benchmarks.profile.tflite_profile import interpreter_of
from edgedet.benchmarks.studies.tflite_plan import plan_of, reference_of
from edgedet.calibration.placement.plan import CENTRED, DensePlan
from edgedet.engines.tflite_file import read_trailer
from edgedet.errors import EdgeDetError, InputError, UnsupportedError, require
from edgedet.export.tflite.writer import tflite_from_graph
from edgedet.files import atomic_path, write_json
from edgedet.preprocess import Preprocessor
from edgedet.stream.sources import open_source

FRAMES = 2
LEAST_SHARE = 0.999  # of an operator's elements that are within one level
LOST = (1.0, 0.999, 0.99, 0.95, 0.9, 0.8, 0.7, 0.5)  # shares of equal elements, to show where they are lost


@dataclass(frozen=True)
class Agreement:
    """How an INT8 tensor differs from the reference's; shares in [0, 1].

    name:    of the tensor. kind: the operator that makes it, in ONNX.
    equal:   share of elements that are the same integer; within_1 and within_2: levels apart at most.
    largest: difference, levels.
    """

    name: str
    kind: str
    elements: int
    equal: float
    within_1: float
    within_2: float
    largest: int


def agreement(name: str, kind: str, ours: np.ndarray, wanted: np.ndarray) -> Agreement:
    """Compare two INT8 arrays."""
    apart = np.abs(ours.astype(np.int16) - wanted)
    equal, within_1, within_2 = (float((apart <= levels).mean()) for levels in range(3))
    return Agreement(name, kind, apart.size, equal, within_1, within_2, int(apart.max()))


def integers_of(model: onnx.ModelProto, plan: DensePlan, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Return every INT8 tensor (N, C, H, W) that LiteRT computes, by its name in ONNX; "pixels.centred" is NHWC."""
    flatbuffer, names = tflite_from_graph(model, plan, every_value=True)
    interpreter = interpreter_of(flatbuffer)
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
    for name, wanted in zip(names, results, strict=True):
        yield agreement(name, kinds[name], given[name], wanted)


def merged(turns: Sequence[Sequence[Agreement]]) -> list[Agreement]:
    """Join what several pictures gave, tensor by tensor: mean shares, the largest difference."""
    joined = []
    for same in zip(*turns, strict=True):
        shares = {key: float(np.mean([getattr(a, key) for a in same])) for key in ("equal", "within_1", "within_2")}
        largest, elements = max(a.largest for a in same), sum(a.elements for a in same)
        joined.append(replace(same[0], **shares, largest=largest, elements=elements))
    return joined


def compare(onnx_path: Path, tflite_path: Path, source: str, frames: int, reference: Path | None) -> dict[str, Any]:
    """Return all figures; writes the reference where that is asked for."""
    model = onnx.load(onnx_path)
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
    operators = merged(alone)
    return {
        "pictures": len(alone),
        "operators": [asdict(item) for item in operators],
        "network": [asdict(item) for item in merged(together)],
        "outputs": list(meta.outputs),
        "below": [item.name for item in operators if item.within_1 < LEAST_SHARE],
    }


def _check_same_file(
    flatbuffer: bytes, meta: ArtifactMeta, given: Mapping[str, np.ndarray], pixels: np.ndarray
) -> None:
    """Raise UnsupportedError where the file with all values as outputs is not the one that is shipped."""
    interpreter = interpreter_of(flatbuffer)
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
    helper.set_model_props(model, {META_KEY: meta.to_json()})
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


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
    print(f"operators with less than {100 * LEAST_SHARE} % within 1: {', '.join(figures['below']) or 'none'}\n")
    lost = ", ".join(f"{100 * share:g} %" for share in LOST)
    print(f"the whole network: the first tensors with less than {lost} equal; outputs")
    print(f"{'':<50}{'equal %':>10}{'within 1 %':>12}{'within 2 %':>12}{'largest':>9}")
    network = {item["name"]: item for item in figures["network"]}
    firsts = [next((name for name in network if network[name]["equal"] < share), None) for share in LOST]
    for name in dict.fromkeys([*filter(None, firsts), *figures["outputs"]]):
        item = network[name]
        shown = "".join(f"{100 * item[key]:>{width}.3f}" for key, width in (("equal", 10), ("within_1", 12)))
        print(f"{name:<50}{shown}{100 * item['within_2']:>12.3f}{item['largest']:>9}")


def main(argv: list[str] | None = None) -> int:
    """Print the tables; returns 1 where an operator alone is not within one level."""
    parser = argparse.ArgumentParser(description="Compare an INT8 .tflite file with its dense reference.")
    parser.add_argument("onnx", type=Path, help="float file that it was made from")
    parser.add_argument("tflite", type=Path, help="INT8 file")
    parser.add_argument("--source", required=True, help="pictures: image, folder or video")
    parser.add_argument("--frames", type=int, default=FRAMES, help="number of pictures (default: %(default)s)")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="write the reference, for edgedet eval")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON to FILE, or - for stdout")
    args = parser.parse_args(argv)
    try:
        figures = compare(args.onnx, args.tflite, args.source, args.frames, args.reference)
    except EdgeDetError as error:
        print(f"edgedet: {error}", file=sys.stderr)
        return error.exit_code
    if args.json != "-":
        _print(figures)
    write_json(args.json, figures)
    return 1 if figures["below"] else 0


if __name__ == "__main__":
    sys.exit(main())
