"""The planner's table of layer costs of the whole family, so that planning needs neither PyTorch nor ONNX.

    python -m edgedet.benchmarks.planner.costs  # writes costs.json again, from our own exporter

Layers that cost the same are one row with a count. Amounts are numbers of elements; a precision makes bytes of them.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedet.errors import InputError, require
from edgedet.files import atomic_path
from edgedet.specs import MIN_SIDE, DetectorSpec, spec_for

if TYPE_CHECKING:
    import onnx

TABLE = Path(__file__).with_name("costs.json")
VARIANTS = tuple(f"d{phi}" for phi in range(8)) + ("d7x", "lite0", "lite1", "lite2", "lite3", "lite3x", "lite4")
# Sizes besides each variant's own for which google/automl published a COCO AP (boards.json).
MORE_SIZES = {"d2": (640,), "d3": (640,), "d4": (640,), "d5": (640,), "d6": (640,)}


@dataclass(frozen=True)
class CostRow:
    """Layers of one network that cost the same.

    count:    number of such layers.
    op_class: as in ``compute_layer_costs``.
    macs, read, weights, written: of one layer, in multiply-accumulates and elements.
    """

    count: int
    op_class: str
    macs: int
    read: int
    weights: int
    written: int


@dataclass(frozen=True)
class NetworkCosts:
    """One variant at one size.

    rows:          its layers.
    parameters:    numbers in all constants, each counted once (the heads share theirs over the levels).
    peak_elements: the most elements of activations that are needed at one time, in the graph's order.
    """

    variant: str
    side: int
    rows: tuple[CostRow, ...]
    parameters: int
    peak_elements: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one picture."""
        return sum(row.count * row.macs for row in self.rows)


def shorten_variant(name: str) -> str:
    """Return the table's name of a family member: "tf_efficientdet_d0_ap" costs what "d0" costs."""
    short = name.removeprefix("tf_").removeprefix("efficientdet_").removesuffix("_ap").lower()
    if short not in VARIANTS:
        raise InputError(f"the planner knows {', '.join(VARIANTS)}; got {name!r}.")
    return short


def find_own_side(variant: str) -> int:
    """Return the input side that a variant was designed for."""
    return spec_for(f"tf_efficientdet_{variant}").input_hw[0]


def find_costs(variant: str, side: int | None = None) -> NetworkCosts:
    """Return a variant's costs at a size (default: its own): from the table, else from an export, which needs PyTorch.

    Raises InputError for an unknown variant or a side that is too small, MissingDependency without PyTorch.
    """
    variant = shorten_variant(variant)
    side = find_own_side(variant) if side is None else side
    known = _read_table().get((variant, side))
    return _export_costs(variant, side) if known is None else known


@cache
def _read_table() -> dict[tuple[str, int], NetworkCosts]:
    stored = json.loads(TABLE.read_text(encoding="utf-8"))
    networks = [
        NetworkCosts(
            item["variant"],
            item["side"],
            tuple(CostRow(*row) for row in item["rows"]),
            item["parameters"],
            item["peak_elements"],
        )
        for item in stored["networks"]
    ]
    return {(item.variant, item.side): item for item in networks}


@cache
def _export_costs(variant: str, side: int) -> NetworkCosts:
    if side < MIN_SIDE:
        raise InputError(f"a size needs at least {MIN_SIDE} pixels a side; got {side}.")
    require("torch", f"costs of {variant} at {side} x {side} (the table has its own size)")
    return count_network_costs(replace(spec_for(f"tf_efficientdet_{variant}"), input_hw=(side, side)), variant)


def count_network_costs(spec: DetectorSpec, variant: str) -> NetworkCosts:
    """Export a network with random fusion weights, and count; needs PyTorch and onnx."""
    import torch

    from edgedet.artifact import ArtifactMeta
    from edgedet.benchmarks.profile.layer_costs import compute_layer_costs
    from edgedet.export.fusion.fuse import graph_from_network
    from edgedet.export.network.efficientdet import EfficientDet

    names = tuple(str(index) for index in range(spec.num_classes))
    network, random = EfficientDet(spec).eval(), torch.Generator().manual_seed(0)
    for module in network.modules():  # as trained: equal weights would need fewer multiplications
        weights = getattr(module, "edge_weights", None)
        if weights is not None:
            weights.data.uniform_(0.2, 2.0, generator=random)
    model = graph_from_network(network, ArtifactMeta(spec, names, "fp32", "0" * 64))
    # "int8" has one byte an element, so that bytes are elements
    layers = Counter(
        (layer.op_class, layer.macs, layer.bytes_read, layer.bytes_weights, layer.bytes_written)
        for layer in compute_layer_costs(model, "int8")
    )
    rows = tuple(CostRow(count, *row) for row, count in layers.items())
    return NetworkCosts(variant, spec.input_hw[0], rows, _count_parameters(model), _count_peak_elements(model))


def _count_parameters(model: onnx.ModelProto) -> int:
    import math

    return sum(math.prod(item.dims) for item in model.graph.initializer)


def _count_peak_elements(model: onnx.ModelProto) -> int:
    """Return the most elements alive at one time: from where a tensor is made to where it is read last.

    Activation functions and reshapes work in place, as engines do them; a swish is one step.
    """
    import math

    from edgedet.calibration.graph.macs import read_shapes

    shapes = read_shapes(model)
    home: dict[str, str] = {}  # tensor -> the tensor whose memory it uses
    last: dict[str, int] = {}
    for index, node in enumerate(model.graph.node):
        in_place = node.op_type in ("Sigmoid", "Clip", "Reshape", "Cast") or node.name.endswith(".swish")
        target = home.get(node.input[0], node.input[0]) if in_place else node.output[0]
        home[node.output[0]] = target
        for name in node.input:
            last[home.get(name, name)] = index
        last.setdefault(target, index)
    ends = {home[value.name] for value in model.graph.output}
    constants = {item.name for item in model.graph.initializer} | {""}
    alive = {value.name for value in model.graph.input}
    peak = 0
    for index, node in enumerate(model.graph.node):
        alive.add(home[node.output[0]])
        peak = max(peak, sum(math.prod(shapes[name]) for name in alive - constants))
        alive = {name for name in alive if last.get(name, index) > index or name in ends}
    return peak


def _json_from_costs(network: NetworkCosts) -> dict[str, Any]:
    rows = [[row.count, row.op_class, row.macs, row.read, row.weights, row.written] for row in network.rows]
    return {
        "variant": network.variant,
        "side": network.side,
        "parameters": network.parameters,
        "peak_elements": network.peak_elements,
        "rows": rows,
    }


def write_table(networks: Iterable[NetworkCosts], path: Path) -> None:
    """Write the table, a network a line, so that a change is seen as one."""
    lines = ",\n".join(json.dumps(_json_from_costs(network), separators=(",", ":")) for network in networks)
    with atomic_path(path) as temporary:
        temporary.write_text(f'{{"networks": [\n{lines}\n]}}\n', encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the table of all variants at their own and their other published sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TABLE, help="default: beside this module")
    args = parser.parse_args(argv)
    networks = []
    for variant in VARIANTS:
        spec = spec_for(f"tf_efficientdet_{variant}")
        for side in (spec.input_hw[0], *MORE_SIZES.get(variant, ())):
            networks.append(count_network_costs(replace(spec, input_hw=(side, side)), variant))
            print(f"{variant} at {side}: {networks[-1].macs / 1e9:.2f} GMAC, {len(networks[-1].rows)} kinds of layers")
    write_table(networks, args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
