"""Write the ONNX files that TensorRT 8 is given, for a model of the family, with random weights.

Weights and ranges come of one random picture of 256 x 256. No accuracy gate is asked, because only the graph matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

SMALL_HW = (256, 256)  # in which outputs are computed, too
BATCH = 4
CLASSES = 90


def write_family_files(model: str, folder: Path) -> Iterator[tuple[Path, bool]]:
    """Write one file after the other and return (path, whether it is small enough to compute its outputs).

    Small: NAME.onnx, and NAME_int8.onnx for several pictures. At the model's size: NAME.onnx with the best anchors and
    with all, NAME_int8.onnx for one picture and for several. A file is deleted before the next one is written.
    Where the model's size is not one that takes several pictures (check_batch), its files take one.

    model: "d0" to "d7x", "lite0" to "lite4".
    """
    import torch

    from edgedet.artifact import ArtifactMeta
    from edgedet.benchmarks.models.random_weights import randomise
    from edgedet.calibration.placement.emit import make_sparse_graph
    from edgedet.calibration.placement.plan import make_sparse_plan
    from edgedet.calibration.placement.table import CalibrationTable
    from edgedet.calibration.quantise import KEEP_FLOAT
    from edgedet.export.fusion.fuse import graph_from_network
    from edgedet.export.fusion.top_anchors import MOST_TOP_ANCHORS
    from edgedet.export.network.efficientdet import EfficientDet
    from edgedet.export.onnx_file import write_onnx
    from edgedet.specs import spec_for

    spec = replace(spec_for(f"tf_efficientdet_{model}"), num_classes=CLASSES)
    small = replace(spec, input_hw=SMALL_HW)
    torch.manual_seed(0)
    network = EfficientDet(small).eval()
    randomise(network, SMALL_HW, 0)
    weights = network.state_dict()
    table: CalibrationTable | None = None
    names = tuple(f"class_{index}" for index in range(CLASSES))
    for size in (small, spec):
        network = EfficientDet(size).eval()
        network.load_state_dict(weights)
        meta = ArtifactMeta(size, names, "fp32", "0" * 64).with_top_anchors(MOST_TOP_ANCHORS)
        fp32 = graph_from_network(network, meta)
        table = table or CalibrationTable({}, _magnitudes_of_one_picture(fp32))
        int8 = make_sparse_graph(fp32, make_sparse_plan(fp32, table, KEEP_FLOAT))
        h, w = size.input_hw
        several = 1 if any(side % 2**size.max_level for side in size.input_hw) else BATCH
        files = [(fp32, "", 1, True), (int8, "_int8", several, True)]
        if size is spec:
            files += [(fp32, "", 1, False)] + ([(int8, "_int8", 1, True)] if several > 1 else [])
        for graph, suffix, batch, top in files:
            stem = (
                f"{model}_{h}x{w}{suffix}" + (f"_batch{batch}" if batch > 1 else "") + ("" if top else "_all_anchors")
            )
            path = folder / f"{stem}.onnx"
            its = replace(meta if top else meta.with_top_anchors(0), max_batch=batch)
            write_onnx(graph, replace(its, precision="int8" if suffix else "fp32"), path)
            yield path, size is small
            path.unlink()


def _magnitudes_of_one_picture(model: Any) -> dict[str, float]:
    import numpy as np

    from edgedet.calibration.graph.executor import Executor

    magnitudes: dict[str, float] = {}

    def observe(node: Any, value: Any) -> Any:
        magnitudes[node.output[0]] = float(np.abs(value).max())
        return value

    pixels = np.random.default_rng(1).integers(0, 256, (1, *SMALL_HW, 3), dtype=np.uint8)
    Executor(model).run(pixels, observe)
    return magnitudes
