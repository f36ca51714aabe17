"""Let NVIDIA's own ONNX parser of TensorRT 8.5 or 8.6 read files, without a GPU, and compare its network with the file.

    python scripts/check_trt_parser.py [FILE.onnx...] [--model d0 lite0] [--version 8.5 8.6] [--headers FOLDER]

The parser is NVIDIA's, the network that it fills is a SIMULATION (scripts/trt_parser/): TensorRT's builder makes no
network without a GPU's driver, so an object with the same functions takes its place, with the shapes and types that
NvInfer.h documents. It says that the parser takes every node, and which layers it makes of them. It says nothing of
what the builder then does.

For each file: the verdict, the parser's errors and warnings, the number of layers of each kind, in how many tensors
shape or type differ from ONNX's own rules, and how far the outputs of the network, computed by onnxruntime, are from
those of the file. Exit code 0: all files were taken and agree.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from trt_parser.build import WHEELS, Parser, build_parser, keep_headers
from trt_parser.family import write_family_files
from trt_parser.parsed import Parsed, differences_from_onnx, parse
from trt_parser.replay import model_from_parsed

from edgedet import demo
from edgedet.errors import UnsupportedError

WITHIN = 1e-5  # of the largest output: float32 in another order; INT8 is equal to the bit


def main() -> int:
    """Parse each file and print what came of it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("files", nargs="*", type=Path, metavar="FILE.onnx")
    options.add_argument("--model", nargs="+", default=[], help="also files of d0 to d7x, lite0 ..., of random weights")
    options.add_argument("--version", nargs="+", choices=sorted(WHEELS), default=["8.6"], help="of TensorRT")
    options.add_argument(
        "--headers", type=Path, nargs="+", default=[], help="folders of NVIDIA's headers; once for each version"
    )
    options.add_argument("--batch", type=int, default=2, help="pictures for files that take several (default: 2)")
    options.add_argument("--no-outputs", action="store_true", help="do not compute outputs")
    chosen = options.parse_args()
    for headers in chosen.headers:
        keep_headers(headers)
    parsers = [build_parser(version) for version in chosen.version]
    good = True
    for path in chosen.files:
        try:
            onnx.load(str(path))
        except (OSError, DecodeError) as error:
            print(f"{path} cannot be read as ONNX: {error}", file=sys.stderr)
            return 2
        good &= check(parsers, path, 0 if chosen.no_outputs else chosen.batch)
    for model in chosen.model:
        with tempfile.TemporaryDirectory() as folder:
            for path, is_small in write_family_files(model, Path(folder)):
                good &= check(parsers, path, chosen.batch if is_small and not chosen.no_outputs else 0)
    return 0 if good else 1


def check(parsers: Sequence[Parser], path: Path, batch: int) -> bool:
    """Print what each parser says of a file; return whether all take it, and their networks agree with it."""
    good = True
    for parser in parsers:
        parsed = parse(parser, path)
        verdict = f"refuses: {parsed.refusal}" if parsed.refusal else "takes it"
        print(f"{path.name}: TensorRT {WHEELS[parser.version]}'s parser {verdict}", flush=True)
        for warning in parsed.warnings:
            print(f"  warning: {warning}")
        good = not parsed.refusal and report(parsed, path, batch) and good
    return good


def report(parsed: Parsed, path: Path, batch: int) -> bool:
    """Print layers, shapes and, of ``batch`` pictures, outputs; return whether they agree with the file."""
    model = onnx.load(str(path))
    layers = parsed.layers()
    print(f"  {layers.total()} layers: {', '.join(f'{count} {kind}' for kind, count in layers.most_common())}")
    compared, lines = differences_from_onnx(parsed, model)
    print(f"  {compared} tensors compared with ONNX's shapes and types, {len(lines)} differ")
    for line in lines[:10]:
        print(f"    {line}")
    if not batch:
        return not lines
    try:
        apart = output_differences(parsed, model, batch)
    except UnsupportedError as error:
        print(f"  outputs are not compared: {error} (--no-outputs leaves them out)")
        return False
    print("  outputs, largest difference: " + ", ".join(f"{name} {value:.2g}" for name, value in apart.items()))
    return not lines and max(apart.values()) <= WITHIN


def output_differences(parsed: Parsed, model: onnx.ModelProto, batch: int) -> dict[str, float]:
    """Return, by output, the largest difference between the parser's network and the file over the largest value."""
    pixels = {model.graph.input[0].name: pictures(model.graph.input[0], batch)}
    names = [output.name for output in model.graph.output]
    replayed, original = (run(each, pixels, names) for each in (model_from_parsed(parsed), with_means(model)))
    return {
        name: float(np.abs(a.astype(float) - b.astype(float)).max() / max(np.abs(b.astype(float)).max(), 1))
        for name, a, b in zip(names, replayed, original, strict=True)
    }


def pictures(value: onnx.ValueInfoProto, batch: int) -> np.ndarray:
    """Return frames of the bundled clip in the type and shape of a graph's input, (N, H, W, 3) or (N, 3, H, W)."""
    kind = value.type.tensor_type
    sides = [side.dim_value or batch for side in kind.shape.dim]
    planes = sides[1] == 3
    h, w = sides[2:] if planes else sides[1:3]
    frames = np.stack([cv2.resize(frame, (w, h)) for frame in demo.clip_frames(sides[0])])
    frames = frames.transpose(0, 3, 1, 2) if planes else frames
    return np.ascontiguousarray(frames, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))


def with_means(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the file's graph with global averages as means of two axes, as which the parser of 8.6 takes them.

    onnxruntime adds them up in another order; behind a quantiser, the last bit of a float becomes a step of INT8.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for node in result.graph.node:
        if node.op_type == "GlobalAveragePool":
            node.op_type = "ReduceMean"
            node.attribute.append(onnx.helper.make_attribute("axes", [2, 3]))
    return result


def run(model: onnx.ModelProto, pixels: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
    """Compute outputs node by node, as they are written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(names, pixels)  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
