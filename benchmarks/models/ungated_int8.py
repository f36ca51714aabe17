"""Write an INT8 .tflite of a network that learned nothing, to measure what such a file costs; it finds nothing of use.

    python -m edgedet.benchmarks.models.ungated_int8 --variant tf_efficientdet_lite0 --classes 6 --out l0.tflite

``edgedet export`` judges every INT8 file by what it finds, so it refuses this one. Ranges are those of one random
picture. Weights are random too, unless ``--weights`` names a checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedet import demo
from edgedet.artifact import ArtifactMeta
from edgedet.preprocess import Preprocessor
from edgedet.specs import spec_for

NO_SOURCE = "0" * 64  # there is no checkpoint


def write_ungated(model: Any, meta: ArtifactMeta, out: Path, seed: int | None = None) -> None:
    """Write a fused float graph in INT8, by the ranges of one picture: .tflite, or .onnx for TensorRT.

    seed: of a random picture; None takes the demo's first frame.
    """
    from edgedet.calibration.graph.executor import Executor
    from edgedet.calibration.placement.plan import make_dense_plan, make_sparse_plan
    from edgedet.calibration.placement.table import CalibrationTable
    from edgedet.calibration.quantise import KEEP_FLOAT

    ranges: dict[str, tuple[float, float]] = {}

    def observe(node: Any, value: Any) -> Any:
        ranges[node.output[0]] = (float(value.min()), float(value.max()))
        return value

    if seed is None:
        (frame,) = demo.clip_frames(1)
        pixels = Preprocessor(meta.spec)(frame).pixels
    else:
        pixels = np.random.default_rng(seed).integers(0, 256, (1, *meta.spec.input_hw, 3), dtype=np.uint8)
    Executor(model).run(pixels, observe)
    meta = replace(meta, precision="int8", report={"gate": "none: for measuring cost only"})
    table = CalibrationTable(ranges, {name: max(-low, high) for name, (low, high) in ranges.items()})
    if out.suffix == ".tflite":
        from edgedet.export.tflite.writer import write_tflite

        write_tflite(model, meta, out, make_dense_plan(model, meta.spec, table))
    else:
        from edgedet.calibration.placement.emit import make_sparse_graph
        from edgedet.export.onnx_file import write_onnx

        write_onnx(make_sparse_graph(model, make_sparse_plan(model, table, KEEP_FLOAT)), meta, out)


def graph_of(variant: str, num_classes: int, weights: Path | None) -> tuple[Any, ArtifactMeta]:
    """Return the fused float graph and its metadata; without ``weights``, as PyTorch initialises them."""
    import torch

    from edgedet.export.checkpoints.checkpoint import load_checkpoint, network_from_checkpoint
    from edgedet.export.fusion.fuse import graph_from_network
    from edgedet.export.network.efficientdet import EfficientDet

    torch.manual_seed(0)
    if weights is None:
        spec = replace(spec_for(variant), num_classes=num_classes)
        network = EfficientDet(spec).eval()
        names = tuple(f"class_{index}" for index in range(num_classes))
    else:
        checkpoint = load_checkpoint(weights, variant)
        spec, names, network = checkpoint.spec, checkpoint.class_names, network_from_checkpoint(checkpoint)
    meta = ArtifactMeta(spec, names, "fp32", NO_SOURCE)
    return graph_from_network(network, meta), meta


def main(argv: Sequence[str] | None = None) -> int:
    """Write one file and say so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", required=True, help="a model of the family, such as tf_efficientdet_lite0")
    parser.add_argument("--classes", type=int, default=90, help="without --weights (default: %(default)s)")
    parser.add_argument("--weights", type=Path, help="checkpoint (default: random)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    write_ungated(*graph_of(args.variant, args.classes, args.weights), args.out, seed=0)
    print(f"wrote {args.out}: for measuring cost only")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
