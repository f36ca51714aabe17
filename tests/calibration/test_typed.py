"""The FP16 emission of a sparse Q/DQ graph: the same integers, FP16 between them, the same outputs within a step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

import onnx
import onnxruntime
from models import (
    random_network,
    random_pixels,
)
from onnx import TensorProto, helper, numpy_helper
from sparse_models import sparse_model

from edgedet.calibration.placement.plan import read_initializers
from edgedet.calibration.placement.typed import OPSET, make_typed_graph
from edgedet.errors import UnsupportedError
from edgedet.specs import SPECS

D0 = replace(SPECS["tf_efficientdet_d0"], num_classes=3, input_hw=(128, 128))
LITE0 = replace(SPECS["tf_efficientdet_lite0"], num_classes=3, input_hw=(128, 128))
HALF_PRECISION = 2.0**-11  # largest relative rounding error of a normal FP16 number


@pytest.fixture(scope="module", params=[D0, LITE0], ids=["d0", "lite0"])
def graphs(request: pytest.FixtureRequest) -> tuple[onnx.ModelProto, onnx.ModelProto, np.ndarray, onnx.ModelProto]:
    """(float graph, sparse graph, pixels, typed graph)."""
    pixels = random_pixels(request.param)
    model, sparse, _ = sparse_model(random_network(request.param), pixels)
    return model, sparse, pixels, make_typed_graph(sparse)


def outputs_of(model: onnx.ModelProto, pixels: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pixels})


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    return {item.name: item.type.tensor_type.elem_type for item in (*inferred.value_info, *inferred.output)}


def test_only_the_mean_s_subtraction_and_the_outputs_are_fp32(graphs) -> None:
    typed = graphs[3]
    wide = {name for name, kind in types_of(typed).items() if kind == TensorProto.FLOAT}
    assert wide == {"pixels.float", "pixels.centred", "class_logits", "box_codes"}
    assert [item.name for item in typed.graph.initializer if item.data_type == TensorProto.FLOAT] == ["mean_bgr"]
    assert typed.opset_import[0].version == OPSET == 19


def test_inputs_outputs_metadata_and_quantisers_are_those_of_the_sparse_graph(graphs) -> None:
    _, sparse, _, typed = graphs
    assert list(typed.graph.input) == list(sparse.graph.input)
    assert list(typed.graph.output) == list(sparse.graph.output)
    assert list(typed.metadata_props) == list(sparse.metadata_props)
    of_weights = [n.name for n in sparse.graph.node if n.name.endswith(".weight.quantize")]
    for kind in ("QuantizeLinear", "DequantizeLinear", "Conv", "Add", "Mul", "Sigmoid"):
        ours, wanted = ([n.name for n in g.graph.node if n.op_type == kind] for g in (typed, sparse))
        assert ours == [name for name in wanted if name not in of_weights]
    casts = 3  # behind the mean, before each output
    assert len(typed.graph.node) == len(sparse.graph.node) - len(of_weights) + casts


def test_weights_are_float_for_tensorrt_8_and_integers_for_11(graphs) -> None:
    """The sparse graph's quantisers give the very integers that the typed graph holds, but for the scales' rounding."""
    _, sparse, _, typed = graphs
    exact, integers = read_initializers(sparse), read_initializers(typed)
    assert {name for name, array in exact.items() if array.dtype == np.int8 and array.any()} == set()
    names = [name for name in integers if name.endswith(".weight.int8")]
    assert len(names) > 100
    for name in names:
        weight, scales = exact[name[: -len(".int8")]], exact[name.replace(".int8", ".scales")].reshape(-1, 1, 1, 1)
        given = np.rint(weight / scales)
        np.testing.assert_allclose(weight, given * scales, rtol=2e-7, atol=0)
        assert np.abs(given).max() <= 127


def test_each_weight_moves_by_the_rounding_of_its_scale(graphs) -> None:
    """At most 1/2048 of the channel's largest; where scales are subnormal, 127 half steps of 2^-24."""
    wanted, got = read_initializers(graphs[1]), read_initializers(graphs[3])
    names = [name for name in got if name.endswith(".weight.int8")]
    assert names
    for name in names:
        scales = name.replace(".int8", ".scales")
        shape = (-1, 1, 1, 1)
        real = wanted[name[: -len(".int8")]].astype(np.float64)
        ours = got[name] * got[scales].reshape(shape).astype(np.float64)
        assert np.abs(ours - real).max() <= np.abs(real).max() * HALF_PRECISION * 1.001 + 2.0**-25 * 127


def test_outputs_equal_the_sparse_graph_s_to_fp16_and_as_near_the_float_graph(graphs) -> None:
    """A value beside a rounding boundary falls to the other side, a whole step off; so compare in the mean.

    The typed graph may be at most a tenth farther from the float graph than the sparse one is. From each other the two
    may be as far as two independent roundings of the same size: sqrt(2) times that.
    """
    model, sparse, pixels, typed = graphs
    for exact, wide, half in zip(*(outputs_of(g, pixels) for g in (model, sparse, typed)), strict=True):
        assert half.dtype == np.float32

        def distance(a: np.ndarray, b: np.ndarray) -> float:
            return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))

        assert distance(half, exact) < 1.1 * distance(wide, exact)
        assert distance(half, wide) < 1.5 * distance(wide, exact)


def test_a_dead_channel_and_a_dead_tensor_keep_scales_above_zero(graphs) -> None:
    """1e-8, the smallest scale of a plan, is 0 in FP16, and TensorRT refuses a scale of 0."""
    dead = onnx.ModelProto()
    dead.CopyFrom(graphs[1])
    for item in dead.graph.initializer:
        array = numpy_helper.to_array(item).copy()
        if item.name in ("pixels.nchw.scale", "backbone.conv_stem.weight.scales"):
            array[(0,) * array.ndim] = 1e-8
        elif item.name == "backbone.conv_stem.weight":
            array[0] *= 1e-8 * 127 / np.abs(array[0]).max()
        else:
            continue
        item.CopyFrom(numpy_helper.from_array(array, item.name))
    got = read_initializers(make_typed_graph(dead))
    assert got["pixels.nchw.scale"] == 2.0**-14
    assert got["backbone.conv_stem.weight.scales"].min() == 2.0**-24
    exact = read_initializers(dead)["backbone.conv_stem.weight"][0]
    real = got["backbone.conv_stem.weight.int8"][0] * 2.0**-24
    np.testing.assert_allclose(real, exact, atol=2.0**-25, rtol=0)  # half a step of the new scale


def test_a_constant_beyond_fp16_is_refused_by_name(graphs) -> None:
    large = onnx.ModelProto()
    large.CopyFrom(graphs[1])
    for item in large.graph.initializer:
        if item.name == "backbone.conv_stem.bias":
            array = numpy_helper.to_array(item).copy()
            array[3] = 70000.0
            item.CopyFrom(numpy_helper.from_array(array, item.name))
    with pytest.raises(UnsupportedError, match="backbone.conv_stem.bias holds values beyond 65504"):
        make_typed_graph(large)


def test_a_graph_of_another_tool_is_refused() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [])
    with pytest.raises(UnsupportedError, match="computes pixels.centred"):
        make_typed_graph(helper.make_model(graph))
