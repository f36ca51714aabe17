"""Build an ONNX model with TensorRT-RTX (no GPU needed) and read which layer runs on which types, for tests.

The types stand in the builder's verbose log alone: a list of layers with their inputs, outputs and ONNX nodes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import onnx
import tensorrt_rtx as trt

CONVOLUTION = "correlation"  # the builder's name for it
BYTES = {"UInt8": 1, "Int8": 1, "Bool": 1, "Half": 2, "Float": 4, "Int32": 4, "Int64": 8}


class _Log(trt.ILogger):
    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.messages: list[str] = []
        self.errors: list[str] = []

    def log(self, severity: object, message: str) -> None:
        self.messages.append(message)
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self.errors.append(message)


LOG = _Log()  # one for the process: later builders write to the first one's


@dataclass(frozen=True)
class Layer:
    """One layer of a built engine; types as the builder spells them: Int8, Half, Float, UInt8.

    inputs, outputs: (tensor name, type). nodes: names of the ONNX nodes that went into it.
    moved_bytes: of all inputs and outputs, which are read and written once.
    """

    name: str
    kind: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    weight_types: frozenset[str]
    nodes: frozenset[str]
    moved_bytes: int

    @property
    def is_convolution(self) -> bool:
        """Also of those that hold the swish behind them."""
        return self.kind in (CONVOLUTION, "runtime_fusion")

    @property
    def is_lone_quantiser(self) -> bool:
        """Whether it only quantises, perhaps what an INT8 convolution summed up: no other node or work."""
        scales = re.match(r"__myl_(?:Mul|Cast)*MinMaxRounCast_", self.name) is not None
        return scales and all(".quantize" in node for node in self.nodes)


def parse_errors(model: onnx.ModelProto) -> list[str]:
    """Return what NVIDIA's parser has against a model; empty if it takes it."""
    return parsed(model)[1]


def built_layers(model: onnx.ModelProto, edit: Callable[[object], object] = lambda network: None) -> list[Layer]:
    """Parse with strong typing and build for compute capability 8.6; fail if either refuses.

    edit: what is done to the parsed network before; what it returns lives until the engine is built.
    """
    (builder, network, _parser), errors = parsed(model)
    assert not errors, errors
    alive = edit(network)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    LOG.messages.clear()
    assert builder.build_serialized_network(network, config) is not None, LOG.messages[-3:]
    del alive
    dump = next(message for message in LOG.messages if message.startswith("Layers:"))
    layers = [_layer(line) for line in dump.splitlines() if line.startswith("Name: ")]
    return [layer for layer in layers if layer.kind not in ("wait", "signal")]


def parsed(model: onnx.ModelProto) -> tuple[tuple, list[str]]:
    """Return (builder, network, parser), which must live together, and what the parser has against the model."""
    builder = trt.Builder(LOG)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, LOG)
    parser.parse(model.SerializeToString())
    return (builder, network, parser), [parser.get_error(index).desc() for index in range(parser.num_errors)]


def _layer(line: str) -> Layer:
    name, kind = re.match(r"Name: (.*?), LayerType: (\w+)", line).groups()
    tensors = {
        key: tuple(re.findall(r"Name: ([^,]*), Dimensions.*?Datatype: (\w+)", match[1])) if match else ()
        for key in ("Inputs", "Constants", "Outputs")
        for match in [re.search(rf"{key}: \[(.*?)\](?=, (?:Constants|Outputs|TacticName))", line)]
    }
    weights = frozenset(kind for _, kind in tensors["Constants"])
    nodes = frozenset(re.findall(r"\[ONNX Layer: ([^\]]*)\]", line))
    dense = re.sub(r"Constants: \[.*?\], Outputs", "Outputs", line)
    moved = sum(
        math.prod(int(side) for side in dims.split(",") if side) * BYTES[kind]
        for dims, kind in re.findall(r"Dimensions: \[([\d,]*)\].*?Datatype: (\w+)", dense)
    )
    return Layer(name, kind, tensors["Inputs"], tensors["Outputs"], weights, nodes, moved)
