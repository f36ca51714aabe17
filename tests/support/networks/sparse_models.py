"""Sparse Q/DQ graphs of random networks, for tests of TensorRT's files."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.placement.emit import make_sparse_graph
from edgedet.calibration.placement.plan import SparsePlan, make_sparse_plan
from edgedet.calibration.ranges.choose import table_from_observed
from edgedet.calibration.ranges.observe import observe
from edgedet.export.fusion.fuse import graph_from_network
from edgedet.export.network.efficientdet import EfficientDet


def sparse_model(
    network: EfficientDet, pixels: np.ndarray, keep_float: Collection[str] = ("se",)
) -> tuple[onnx.ModelProto, onnx.ModelProto, SparsePlan]:
    """Return (float graph, sparse graph, plan), calibrated by min-max on one picture."""
    spec = network.spec
    meta = ArtifactMeta(spec, tuple(f"class_{i}" for i in range(spec.num_classes)), "fp32", "0" * 64)
    model = graph_from_network(network, meta)
    executor = Executor(model)
    table = table_from_observed(executor, *observe(executor, [pixels]), "", "minmax")
    plan = make_sparse_plan(model, table, keep_float)
    return model, make_sparse_graph(model, plan), plan
