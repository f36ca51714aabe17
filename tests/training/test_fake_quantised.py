"""A network that is trained for INT8 computes what the written files compute."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
from models import random_network, random_pixels
from training_sets import CLASSES, TINY

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.placement.emit import make_dense_graph
from edgedet.calibration.placement.plan import DensePlan
from edgedet.calibration.quantise import quantise
from edgedet.export.fusion.fuse import graph_from_network
from edgedet.training.int8.fake_quantised import FakeQuantised
from edgedet.training.int8.train_int8 import quantise_trained, write_biases

torch.set_num_threads(1)
WITH_SWISH = replace(TINY, backbone="b0", fusion="fastattn", activation="swish")
META = ArtifactMeta(TINY, CLASSES, "fp32", "0" * 64)


def quantised(spec):
    graph = graph_from_network(random_network(spec), replace(META, spec=spec))
    pixels = [random_pixels(spec, seed) for seed in range(2)]
    return graph, quantise(graph, spec, pixels, "0" * 64, observer="minmax"), random_pixels(spec, 5)


def run_plainly(model, pixels):
    """By onnxruntime without its optimisations, whose fused INT8 kernels saturate on some CPUs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pixels})


def outputs_of(module, pixels):
    with torch.no_grad():
        return [output.numpy() for output in module(torch.from_numpy(pixels))]


def values_of(model, plan, pixels):
    """Every value that the Q/DQ graph computes, as real numbers, by the float graph's names."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    have = {name for node in whole.graph.node for name in node.output}
    names = [name for name in have if not name.endswith((".q", ".int8"))]
    rounded = {name: f"{name}.q" if isinstance(plan, DensePlan) and f"{name}.q" in have else name for name in names}
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in rounded.values())
    return dict(zip(rounded, map(torch.from_numpy, run_plainly(whole, pixels)), strict=True))


def assert_nodes_agree(module, model, pixels):
    """Each node, from the values that the written graph has before it, gives what stands behind it there.

    A sum that lies between two levels may tip either way by the order of its terms: one level, seldom.
    """
    values = {"pixels": torch.from_numpy(pixels), **values_of(model, module.plan, pixels)}
    dense = isinstance(module.plan, DensePlan)
    compared = 0
    for node, attributes in module.steps:
        name = node.output[0]
        if name not in values or not all(n in values or n in module.constants or not n for n in node.input):
            continue
        with torch.no_grad():
            difference = (module.compute_node(node, attributes, values) - values[name]).abs()
        step = module.plan.tensors[name].scale if dense and name in module.plan.tensors else None
        if step is None:  # a float value: what the node reads may have tipped
            largest = max(float(values[name].abs().max()), 1e-3)
            assert float(difference.max()) < 0.02 * largest, name
            assert float(difference.mean()) < 2e-5 * largest, name
        else:
            assert float(difference.max()) < 1.001 * step, name
            assert float((difference > 0.5 * step).float().mean()) < 1e-3, name
        compared += 1
    assert compared == len(module.steps)


@pytest.mark.parametrize("spec", [TINY, WITH_SWISH], ids=["lite", "swish and squeeze-excite"])
def test_before_training_each_node_computes_what_both_writers_write(spec):
    graph, q, pixels = quantised(spec)
    for plan, model in ((q.dense, make_dense_graph(q.model, spec, q.dense)), (q.sparse, q.sparse_model())):
        assert_nodes_agree(FakeQuantised(write_biases(q.model, spec, plan), spec, plan), model, pixels)
    plain = FakeQuantised(graph, spec, None)
    for mine, reference in zip(outputs_of(plain, pixels), run_plainly(graph, pixels), strict=True):
        np.testing.assert_allclose(mine, reference, atol=1e-4 * np.abs(reference).max())


@pytest.mark.parametrize("target", ["tflite", "tensorrt"])
def test_after_training_each_node_computes_what_is_written(target):
    """Some steps with a large rate move the outputs by many levels; then the graph is written."""
    _, q, pixels = quantised(TINY)
    plan = q.dense if target == "tflite" else q.sparse
    model = write_biases(q.model, TINY, plan)
    module = FakeQuantised(model, TINY, plan)
    before = outputs_of(module, pixels)
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    for seed in range(2):
        logits, codes = module(torch.from_numpy(random_pixels(TINY, seed)))
        optimiser.zero_grad()
        ((logits + 3).square().mean() + codes.square().mean()).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in module.parameters())
    moved = np.abs(outputs_of(module, pixels)[0] - before[0]).mean()
    assert moved > 0.02
    trained = quantise_trained(module.trained_model(model), TINY, q)
    module.plan = trained.dense if target == "tflite" else trained.sparse
    written = make_dense_graph(trained.model, TINY, trained.dense) if target == "tflite" else trained.sparse_model()
    assert_nodes_agree(module, written, pixels)
    for mine, reference in zip(outputs_of(module, pixels), run_plainly(written, pixels), strict=True):
        assert np.abs(mine - reference).mean() < 0.5 * moved  # levels that tip spread through a random network


def test_the_plan_of_trained_weights_has_the_scales_that_they_were_trained_with():
    _, q, _ = quantised(TINY)
    module = FakeQuantised(write_biases(q.model, TINY, q.dense), TINY, q.dense)
    with torch.no_grad():
        for value in module.parameters():
            value.mul_(1.3)
    trained = quantise_trained(module.trained_model(write_biases(q.model, TINY, q.dense)), TINY, q)
    assert trained.dense.tensors == q.dense.tensors
    assert trained.sparse.tensors == q.sparse.tensors
    stem = next(iter(q.dense.convs))
    np.testing.assert_allclose(trained.dense.convs[stem].scales, 1.3 * q.dense.convs[stem].scales, rtol=1e-5)
