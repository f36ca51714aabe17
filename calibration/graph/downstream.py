"""The part of a graph that lies downstream of one value, run by onnxruntime.

It serves where one value is changed again and again: from the stem on, D0's outputs take 0.07 s, and 0.19 s in the
executor.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from edgedet.calibration.graph.executor import OUTPUTS, Executor
from edgedet.errors import require


class DownstreamGraph:
    """The nodes of a graph that depend on one value, ready to run."""

    def __init__(self, executor: Executor, name: str, values: Mapping[str, Tensor]) -> None:
        """Prepare the nodes for a change of the value ``name``; ``values`` of one run give types and sizes.

        Raises MissingDependency without onnxruntime.
        """
        ort = require("onnxruntime", "refining ranges")
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.enable_cpu_mem_arena = True  # a dozen of these are alive at once
        self._name, reached, nodes = name, {name}, []
        for node in executor.nodes:
            if node.output[0] not in reached and reached.intersection(node.input):
                nodes.append(node)
                reached.add(node.output[0])
        read = {item for node in nodes for item in node.input if item}
        self._inputs = sorted(item for item in read if item in values and (item == name or item not in reached))
        self._outputs = [item for item in OUTPUTS if item in reached]
        constants = sorted(item for item in read - set(values) if item in executor.constants)
        graph = helper.make_graph(
            nodes,
            "downstream",
            [_make_value_info(item, values[item]) for item in self._inputs],
            [_make_value_info(item, values[item]) for item in self._outputs],
            [numpy_helper.from_array(executor.constants[item].numpy(), item) for item in constants],
        )
        model = helper.make_model(graph, opset_imports=executor.opsets, ir_version=executor.ir_version)
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def __call__(self, values: Mapping[str, Tensor], changed: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits and box codes where the value is ``changed`` and all others are ``values``."""
        feeds = {item: (changed if item == self._name else values[item]).numpy() for item in self._inputs}
        computed = dict(zip(self._outputs, self._session.run(self._outputs, feeds), strict=True))
        logits, codes = (torch.from_numpy(computed[item]) if item in computed else values[item] for item in OUTPUTS)
        return logits, codes


def _make_value_info(name: str, value: Tensor) -> onnx.ValueInfoProto:
    kind = TensorProto.UINT8 if value.dtype == torch.uint8 else TensorProto.FLOAT
    return helper.make_tensor_value_info(name, kind, list(value.shape))
