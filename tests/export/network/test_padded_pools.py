"""Networks whose max-pools see zeros outside (zylo117's) through calibration, INT8 graphs and ``--tflite``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")

import onnx
import onnxruntime
from models import (
    random_network,
    random_pixels,
    relative_error,
)
from tflite_models import graph_of, outputs_of, plan_for

from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.placement.emit import make_dense_graph, make_sparse_graph
from edgedet.calibration.placement.plan import make_dense_plan, make_sparse_plan
from edgedet.calibration.ranges.choose import table_from_observed
from edgedet.calibration.ranges.observe import observe
from edgedet.export.checkpoints.checkpoint import Checkpoint, save_checkpoint
from edgedet.export.export_onnx import export_onnx
from edgedet.export.tflite.writer import tflite_from_graph
from edgedet.info.info import info_of
from edgedet.specs import SPECS

ZEROS = replace(SPECS["tf_efficientdet_d0"], num_classes=2, input_hw=(200, 133), pool_padding="zeros", family="zylo117")
TOLERANCE = 1e-5  # of the largest output


@pytest.fixture(scope="module")
def network():
    """Its BiFPN is mostly below zero, so that zeros win at the borders."""
    network = random_network(ZEROS)
    for module in network.fpn.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.bias.data -= 0.5
    return network


@pytest.fixture(scope="module")
def model(network):
    return graph_of(network)


def run(model, pixels: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pixels})


def pools_of(model, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Run onnxruntime and return each max-pool's output; a random network's own outputs hardly feel them."""
    names = [node.output[0] for node in model.graph.node if node.op_type == "MaxPool"]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(value for value in model.graph.value_info if value.name in names)
    found = dict(zip([value.name for value in watched.graph.output], run(watched, pixels), strict=True))
    assert len(found) == len(names) == 14  # 2 coarse levels, 4 pools in each of 3 cells
    return found


def test_the_executor_computes_what_onnxruntime_does(model):
    """With the pads of an odd size, which differ before and after."""
    pixels = random_pixels(ZEROS)
    wanted = pools_of(model, pixels)
    got = {}

    def look(node, value):
        got[node.output[0]] = value
        return value

    outputs = Executor(model).run(pixels, look)
    for name, value in wanted.items():
        assert relative_error(got[name], value) < TOLERANCE
    for ours, theirs in zip(outputs, run(model, pixels), strict=True):
        assert relative_error(ours, theirs) < TOLERANCE


def test_the_tflite_file_computes_what_onnxruntime_does(model):
    pixels = random_pixels(ZEROS)
    flatbuffer, names = tflite_from_graph(model, every_value=True)
    got = dict(zip(names, outputs_of(flatbuffer, pixels), strict=True))
    for name, value in pools_of(model, pixels).items():
        assert relative_error(got[name].transpose(0, 3, 1, 2), value) < TOLERANCE


def test_every_pool_feels_the_zeros(network, model):
    """So that the comparisons above could fail: the difference is a hundred times theirs."""
    pixels = random_pixels(ZEROS)
    other = random_network(replace(ZEROS, pool_padding="nothing"))
    other.load_state_dict(network.state_dict())
    without = pools_of(graph_of(other), pixels)
    for name, value in pools_of(model, pixels).items():
        assert relative_error(without[name], value) > 100 * TOLERANCE


def test_a_pad_shares_the_scale_of_what_it_pads(model):
    pixels = random_pixels(ZEROS)
    executor = Executor(model)
    seen, hashes = observe(executor, [pixels])
    pads = [node for node in model.graph.node if node.op_type == "Pad"]
    assert not seen.keys() & {node.output[0] for node in pads}
    table = table_from_observed(executor, seen, hashes, "", "minmax")
    tensors = make_dense_plan(model, ZEROS, table).tensors
    assert all(tensors[node.output[0]] == tensors[node.input[0]] for node in pads)


def test_int8_graphs_follow_the_float_graph(model):
    pixels = random_pixels(ZEROS)
    executor = Executor(model)
    table = table_from_observed(executor, *observe(executor, [pixels]), "", "minmax")
    wanted = run(model, pixels)
    for graph in (
        make_dense_graph(model, ZEROS, plan_for(model, ZEROS, pixels)),
        make_sparse_graph(model, make_sparse_plan(model, table)),
    ):
        codes = run(graph, pixels)[1]
        assert np.corrcoef(codes.ravel(), wanted[1].ravel())[0, 1] > 0.95


def test_an_export_with_tflite_is_verified(network, tmp_path: Path):
    state = {key: value for key, value in network.state_dict().items() if value.is_floating_point()}
    checkpoint = Checkpoint(state, ZEROS, ("person", "car"), "ab" * 32)
    save_checkpoint(checkpoint, tmp_path / "a.safetensors")
    result = export_onnx(checkpoint, tmp_path / "a.onnx", 1, tflite=True)
    assert result.tflite is not None
    assert max(result.max_relative_difference, result.tflite.max_relative_difference) < 1e-4
    for name in ("a.onnx", "a.tflite", "a.safetensors"):
        assert info_of(tmp_path / name).family == "zylo117"
