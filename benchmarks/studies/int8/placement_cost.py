"""Ask a cost model of bytes and MACs which convolutions should be INT8, and compare that with the recipes of a build.

    python -m edgedet.benchmarks.studies.int8.placement_cost

The time of a layer is the longer of its multiply-accumulates by the GPU's peak and its bytes by the memory's bandwidth;
a kernel more costs KERNEL_US. Two models say what an INT8 convolution writes:
- "guide": what TensorRT's Developer Guide promises ("Q/DQ Fusions"): bias, activation and rounding are computed there;
- "rtx": what NVIDIA's builder without a GPU does (TensorRT-RTX 1.7, docs/decisions/0005-tensorrt.md): sums leave as
  FP32, and another kernel does the rest.
A float convolution whose output an INT8 one reads needs a kernel that only rounds, in both. Depthwise convolutions run
on no tensor cores, so INT8 multiplies as fast as FP16. Starting from each recipe, layers change their precision one by
one, with their readers and class by class, while that saves time. Nothing here was measured on a board.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import onnx

from edgedet.artifact import ArtifactMeta
from edgedet.benchmarks.planner.boards import read_boards
from edgedet.calibration.graph.macs import count_conv_macs, read_shapes
from edgedet.calibration.placement.plan import OP_CLASSES
from edgedet.calibration.quantise import KEEP_FLOAT
from edgedet.specs import SPECS

# Board -> giga multiply-accumulates a second of its tensor cores, dense, in FP16 and INT8: half of the operations in
# NVIDIA's data sheets (Orin Nano 8GB: 40 sparse INT8 TOPS; AGX Orin 64GB, GPU: 170), a quarter of the sparse ones.
TENSOR_GMACS = {"orin-nano": (5_000.0, 10_000.0), "agx-orin": (21_250.0, 42_500.0)}
MODELS = ("tf_efficientdet_d0", "tf_efficientdet_d2", "tf_efficientdet_lite0")
KERNEL_US = 2.0  # between kernels of a CUDA graph on a GPU of this kind
ACTIVATIONS = ("Sigmoid", "Mul", "Clip")


@dataclass(frozen=True)
class Conv:
    """A convolution: what it multiplies, moves and feeds. elements_in and elements_out are of its activations."""

    node: onnx.NodeProto
    macs: int
    weights: int
    elements_in: int
    elements_out: int
    depthwise: bool
    feeds: tuple[str, ...]  # convolutions that read its output behind nothing but an activation

    @property
    def name(self) -> str:
        """As in the file."""
        return self.node.name


@dataclass(frozen=True)
class Gpu:
    """Peaks a microsecond: multiply-accumulates of tensor cores by precision and of CUDA cores, and bytes."""

    fp16: float
    int8: float
    cuda_cores: float
    bytes: float


def read_convs(model: onnx.ModelProto) -> dict[str, Conv]:
    """Return the graph's convolutions but those of squeeze-excite, which stay float, by their names."""
    shapes, macs = read_shapes(model), count_conv_macs(model)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def fed(name: str) -> Iterable[str]:
        for node in readers.get(name, ()):
            if node.op_type == "Conv":
                yield node.name
            elif node.op_type in ACTIVATIONS and node.output[0].startswith(name.rsplit(".sigmoid", 1)[0]):
                yield from fed(node.output[0])

    return {
        node.name: Conv(
            node,
            macs[node.name],
            math.prod(shapes[node.input[1]]),
            math.prod(shapes[node.input[0]]),
            math.prod(shapes[node.output[0]]),
            OP_CLASSES["depthwise"](node),
            tuple(sorted(set(fed(node.output[0])))),
        )
        for node in model.graph.node
        if node.op_type == "Conv" and not OP_CLASSES["se"](node)
    }


def cost_us(convs: Mapping[str, Conv], int8: frozenset[str], gpu: Gpu, fuses: bool) -> float:
    """Return the microseconds of all convolutions and of the kernels that their precisions need."""
    total = 0.0
    for name, conv in convs.items():
        is_int8 = name in int8
        feeds_int8 = [reader for reader in conv.feeds if reader in int8]
        wide = not conv.feeds or len(feeds_int8) < len(conv.feeds)  # somebody reads it as FP16
        written = conv.elements_out * ((2 if wide else 0) + (1 if feeds_int8 else 0))
        kernels = 1
        if is_int8 and not fuses:
            written += conv.elements_out * 8  # FP32 out, and in again
            kernels += 1
        elif not is_int8 and feeds_int8:
            written += conv.elements_out * (2 if wide else 4)  # the kernel that rounds reads what was written
            kernels += 1
        size = 1 if is_int8 else 2
        moved = (conv.elements_in + conv.weights) * size + written
        peak = gpu.cuda_cores if conv.depthwise else gpu.int8 if is_int8 else gpu.fp16
        total += max(conv.macs / peak, moved / gpu.bytes) + kernels * KERNEL_US
    return total


def best_placement(
    convs: Mapping[str, Conv], starts: Iterable[frozenset[str]], gpu: Gpu, fuses: bool
) -> tuple[frozenset[str], float]:
    """Return the cheapest set of INT8 convolutions that changes of single layers, chains and classes lead to."""
    cost = partial(cost_us, convs, gpu=gpu, fuses=fuses)
    moves = [frozenset([name]) for name in convs]
    moves += [frozenset([name, *conv.feeds]) & convs.keys() for name, conv in convs.items()]
    moves += [frozenset(n for n, c in convs.items() if OP_CLASSES[kind](c.node)) for kind in OP_CLASSES if kind != "se"]
    placements = []
    for start in starts:
        int8, us, improved = start, cost(start), True
        while improved:
            improved = False
            for move in moves:
                for changed in (int8 ^ move, int8 | move, int8 - move):
                    if (its := cost(changed)) < us - 1e-9:
                        int8, us, improved = changed, its, True
        placements.append((int8, us))
    return min(placements, key=lambda pair: pair[1])


def recipes_of(convs: Mapping[str, Conv]) -> dict[str, frozenset[str]]:
    """Return the INT8 convolutions of the recipes that `edgedet build` tries; dense pairs are left out."""

    def without(*classes: str) -> frozenset[str]:
        return frozenset(n for n, c in convs.items() if not any(OP_CLASSES[kind](c.node) for kind in classes))

    return {
        "fp16": frozenset(),
        "int8, all": frozenset(convs),
        "int8": without(*KEEP_FLOAT),
        "int8, fpn and heads fp16": without(*KEEP_FLOAT, "fpn", "heads"),
    }


def describe(convs: Mapping[str, Conv], names: Iterable[str]) -> dict[str, int]:
    """Return how many of the convolutions are of each class, the first that fits."""
    kinds = ("stem", "fpn", "heads", "backbone_depthwise")
    counts: dict[str, int] = {}
    for name in names:
        kind = next((kind for kind in kinds if OP_CLASSES[kind](convs[name].node)), "backbone pointwise")
        counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items()))


def main(argv: list[str] | None = None) -> int:
    """Print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="variants (default: %(default)s)")
    args = parser.parse_args(argv)
    boards = read_boards()
    rows = []
    for name in args.models.split(","):
        convs = read_convs(graph_of(name))
        recipes, macs = recipes_of(convs), sum(conv.macs for conv in convs.values())
        for board, (fp16, int8) in TENSOR_GMACS.items():
            gpu = Gpu(fp16 * 1e3, int8 * 1e3, boards[board].gmacs["fp16"] * 1e3, boards[board].gb_per_s * 1e3)
            for fuses in (True, False):
                chosen, us = best_placement(convs, recipes.values(), gpu, fuses)
                rows.append(
                    {
                        "model": name,
                        "board": board,
                        "cost": "guide" if fuses else "rtx",
                        "recipes_ms": {
                            recipe: cost_us(convs, its, gpu, fuses) / 1e3 for recipe, its in recipes.items()
                        },
                        "per_layer_ms": us / 1e3,
                        "int8_mac_share": sum(convs[conv].macs for conv in chosen) / macs,
                        "float": describe(convs, convs.keys() - chosen),
                    }
                )
    titles = list(rows[0]["recipes_ms"])
    print(
        f"{'model':24}{'board':11}{'cost':7}" + "".join(f"{title:>26}" for title in titles) + "   per layer   INT8 MACs"
    )
    for row in rows:
        cells = "".join(f"{row['recipes_ms'][title]:>26.2f}" for title in titles)
        print(
            f"{row['model']:24}{row['board']:11}{row['cost']:7}{cells}{row['per_layer_ms']:>12.2f}"
            f"{row['int8_mac_share']:>12.0%}"
        )
    print(json.dumps(rows))
    return 0


def graph_of(name: str) -> onnx.ModelProto:
    """Return the float graph of a variant with random weights, of its own input size and 6 classes."""
    from edgedet.export.fusion.fuse import graph_from_network
    from edgedet.export.network.efficientdet import EfficientDet

    spec = replace(SPECS[name], num_classes=6)
    meta = ArtifactMeta(spec, tuple(f"class_{index}" for index in range(6)), "fp32", "0" * 64)
    return graph_from_network(EfficientDet(spec).eval(), meta)


if __name__ == "__main__":
    sys.exit(main())
