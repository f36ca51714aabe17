"""Let the parser read an ONNX file, and compare the shapes and types of its network with ONNX's own rules."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from .build import Parser

# nvinfer1::LayerType of the layers that network.cpp has, and nvinfer1::DataType, by number
LAYERS = {
    0: "convolution",
    2: "activation",
    3: "pooling",
    8: "concatenation",
    9: "elementwise",
    11: "unary",
    13: "shuffle",
    14: "reduce",
    15: "topk",
    16: "gather",
    19: "constant",
    21: "identity",
    23: "slice",
    24: "shape",
    26: "resize",
    33: "quantize",
    34: "dequantize",
    44: "nms",
    47: "cast",
}
DTYPES = (np.float32, np.float16, np.int8, np.int32, np.bool_, np.uint8)
NARROWED = {np.dtype(np.int64): np.dtype(np.int32)}  # TensorRT 8 has no INT64, and its parser makes INT32 of it


@dataclass(frozen=True)
class Parsed:
    """What the parser made of a file.

    refusal:  "" where it took the file; else its errors, or what the simulated network lacks.
    warnings: its warnings.
    network:  inputs, outputs and layers, as main.cpp writes them; the settings of layers have TensorRT's numbers.
    weights:  the bytes of all weights, to which the settings point.
    """

    refusal: str
    warnings: tuple[str, ...]
    network: dict[str, Any]
    weights: bytes

    def layers(self) -> Counter[str]:
        """Count the layers of each kind."""
        return Counter(LAYERS[layer["type"]] for layer in self.network["layers"])

    def tensors(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return shape and type of every tensor by name; -1 is an open dimension."""
        listed = list(self.network["inputs"])
        listed += [output for layer in self.network["layers"] for output in layer["outputs"]]
        return {tensor["name"]: (tuple(tensor["shape"]), np.dtype(DTYPES[tensor["type"]])) for tensor in listed}


def parse(parser: Parser, path: Path) -> Parsed:
    """Run the program on a file."""
    with tempfile.TemporaryDirectory() as folder:
        network, weights = Path(folder) / "network.json", Path(folder) / "weights.bin"
        command = [str(parser.program), str(parser.library), str(path), str(network), str(weights)]
        ended = subprocess.run(command, env=parser.environment, capture_output=True, text=True, check=False)
        if ended.returncode not in (0, 1):
            return Parsed(f"{ended.stderr.strip() or 'exit code'} ({ended.returncode})", (), {}, b"")
        written = json.loads(network.read_text(encoding="ascii"))
        refusal = "" if written["parsed"] else "; ".join(written["errors"]) or "no reason given"
        return Parsed(refusal, tuple(written["messages"]), written, weights.read_bytes())


def differences_from_onnx(parsed: Parsed, model: onnx.ModelProto) -> tuple[int, list[str]]:
    """Compare each tensor that has a name in both; return how many were compared, and a line for each difference.

    A dimension that the graph's inputs leave open is -1 in both; one that only ONNX does not know may be anything.
    """
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    opened = {side.dim_param for value in inferred.input for side in value.type.tensor_type.shape.dim}
    tensors, compared, lines = parsed.tensors(), 0, []
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        if value.name not in tensors:
            continue
        kind = value.type.tensor_type
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        shape, read_dtype = tensors[value.name]
        expected = tuple(
            side.dim_value if side.HasField("dim_value") else -1 if side.dim_param in opened else None
            for side in kind.shape.dim
        )
        compared += 1
        fits = len(shape) == len(expected) and all(b in (a, None) for a, b in zip(shape, expected, strict=True))
        if not fits or read_dtype != NARROWED.get(dtype, dtype):
            lines.append(f"{value.name} is {shape} {read_dtype}, ONNX says {expected} {dtype}")
    missing = [output.name for output in inferred.output if output.name not in parsed.network["outputs"]]
    return compared, lines + [f"output {name} is missing" for name in missing]
