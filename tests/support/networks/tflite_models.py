"""Fused graphs, plans of integers from one picture, and LiteRT interpreters, for tests of TFLite files."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import torch
from models import random_network, random_pixels

from edgedet.artifact import ArtifactMeta
from edgedet.benchmarks.profile.tflite_profile import open_interpreter
from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.placement.plan import DensePlan, make_dense_plan
from edgedet.calibration.placement.table import CalibrationTable
from edgedet.export.fusion.fuse import graph_from_network
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.specs import SPECS, DetectorSpec

D0 = replace(SPECS["tf_efficientdet_d0"], num_classes=3, input_hw=(128, 160))
LITE0 = replace(SPECS["tf_efficientdet_lite0"], num_classes=3, input_hw=(160, 128))
LOWEST_LOGIT = -4.6  # logit(0.01): what is surely nothing shares the smallest integer


def meta_of(spec: DetectorSpec) -> ArtifactMeta:
    return ArtifactMeta(spec, tuple(f"class_{i}" for i in range(spec.num_classes)), "fp32", "0" * 64)


def graph_of(network: EfficientDet) -> onnx.ModelProto:
    return graph_from_network(network, meta_of(network.spec))


def random_graph(spec: DetectorSpec) -> onnx.ModelProto:
    """Return the fused graph of ``random_network(spec)``; the caller's own, made once in a process and copied."""
    model = onnx.ModelProto()
    model.CopyFrom(_random_graph(spec))
    return model


@functools.lru_cache(maxsize=8)
def _random_graph(spec: DetectorSpec) -> onnx.ModelProto:
    return graph_of(random_network(spec))


def plan_for(model: onnx.ModelProto, spec: DetectorSpec, pixels: np.ndarray) -> DensePlan:
    """Give each tensor the range that one picture causes."""
    ranges: dict[str, tuple[float, float]] = {}

    def observe(node: onnx.NodeProto, value: torch.Tensor) -> torch.Tensor:
        ranges[node.output[0]] = (float(value.min()), float(value.max()))
        return value

    Executor(model).run(pixels, observe)
    for name, (_, high) in ranges.items():
        if name.startswith("class_net.predict.conv_pw"):
            ranges[name] = (LOWEST_LOGIT, high)
    return make_dense_plan(model, spec, CalibrationTable(ranges, {}))


@functools.lru_cache(maxsize=8)
def random_plan(spec: DetectorSpec) -> DensePlan:
    """Return the plan of ``random_graph(spec)`` for ``random_pixels(spec)``; made once, not to be changed."""
    return plan_for(random_graph(spec), spec, random_pixels(spec))


def outputs_of(flatbuffer: bytes, pixels: np.ndarray) -> list[np.ndarray]:
    """Run camera bytes (1, H, W, 3) through a written file and return its outputs as they are."""
    interpreter = open_interpreter(flatbuffer)
    (image,) = interpreter.get_input_details()
    interpreter.set_tensor(image["index"], (pixels.astype(np.int16) - 128).astype(np.int8))
    interpreter.invoke()
    return [interpreter.get_tensor(item["index"]) for item in interpreter.get_output_details()]


def flat(outputs: list[Any], num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Join levels: (A, C) class logits and (A, 4) box codes."""
    levels = len(outputs) // 2
    logits = np.concatenate([item.reshape(-1, num_classes) for item in outputs[:levels]])
    return logits, np.concatenate([item.reshape(-1, 4) for item in outputs[levels:]])


def operators_of(flatbuffer: bytes) -> Counter[str]:
    """Count the operators as written, by kind; "DELEGATE" counts XNNPACK's partitions."""
    return Counter(item["op_name"] for item in open_interpreter(flatbuffer)._get_ops_details())


def outside_xnnpack(flatbuffer: bytes) -> Counter[str]:
    """Count the operators that TFLite's own kernels run, because XNNPACK did not take them.

    Their outputs are no partition's outputs, but a partition or another such operator reads them, or they leave.
    """
    interpreter = open_interpreter(flatbuffer)
    operators = interpreter._get_ops_details()
    partitions = [item for item in operators if item["op_name"] == "DELEGATE"]
    made = {int(tensor) for item in partitions for tensor in item["outputs"]}
    read = {int(tensor) for item in partitions for tensor in item["inputs"]}
    read |= {item["index"] for item in interpreter.get_output_details()}
    outside: Counter[str] = Counter()
    for item in reversed(operators):  # in the graph's order, so that readers come before makers
        if item["op_name"] != "DELEGATE" and int(item["outputs"][0]) in read - made:
            outside[item["op_name"]] += 1
            read |= {int(tensor) for tensor in item["inputs"]}
    return outside
