"""A float TFLite file does what the network does; what the writer leaves out, fuses, shares and refuses."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

torch = pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")
pytest.importorskip("flatbuffers", reason="needs the tflite extra")

from models import (
    random_network,
    random_pixels,
    relative_error,
)
from tflite_models import (
    flat,
    graph_of,
    meta_of,
    open_interpreter,
    operators_of,
    outputs_of,
    outside_xnnpack,
    random_graph,
)

from edgedet.cli import main
from edgedet.engines.tflite_file import read_trailer
from edgedet.errors import UnsupportedError
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.export.tflite.builder import ALIGNMENT, TfliteBuilder
from edgedet.export.tflite.writer import tflite_from_graph, write_tflite
from edgedet.export.verify import network_input
from edgedet.specs import SPECS, DetectorSpec

TOLERANCE = 1e-4  # of the largest magnitude
D0 = replace(SPECS["tf_efficientdet_d0"], num_classes=3)
LITE0 = replace(SPECS["tf_efficientdet_lite0"], num_classes=3)


@torch.inference_mode()
def check_against_network(network: EfficientDet) -> bytes:
    """Compare a written file's outputs with the network's; return the file's flatbuffer."""
    spec = network.spec
    flatbuffer, _ = tflite_from_graph(graph_of(network))
    pixels = random_pixels(spec)
    got = flat(outputs_of(flatbuffer, pixels), spec.num_classes)
    for ours, wanted in zip(got, network(network_input(pixels, spec)), strict=True):
        assert ours.shape == wanted[0].shape
        assert relative_error(ours, wanted[0]) < TOLERANCE
    return flatbuffer


@pytest.mark.parametrize(
    "spec",
    [
        D0,
        replace(D0, input_hw=(200, 333)),  # levels 25x42, 13x21, 7x11, 4x6, 2x3: pools and resizes of every kind
        LITE0,  # resizes 3 -> 5
        replace(
            D0, input_hw=(128, 160), padding="symmetric"
        ),  # stride 2 pads before and after: TFLite has no such word
        replace(LITE0, input_hw=(192, 128), fusion="fastattn"),
        replace(D0, input_hw=(200, 133), pool_padding="zeros"),  # as zylo117
    ],
    ids=[
        "d0",
        "d0 of an odd size",
        "lite0",
        "d0 padded symmetrically",
        "lite0 with fusion weights",
        "d0 with zeros around max-pools",
    ],
)
def test_the_float_file_equals_the_network(spec: DetectorSpec) -> None:
    check_against_network(random_network(spec))


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"tf_efficientdet_{kind}{n}" for kind in ("d", "lite") for n in range(1, 5)])
def test_the_rest_of_the_family_equals_the_network(name: str) -> None:
    check_against_network(random_network(replace(SPECS[name], num_classes=3)))


def test_a_relu6_that_nothing_can_fuse_stays_an_operator() -> None:
    """An edge of weight zero leaves a node a single resized input: nothing to add, so nothing to fuse into."""
    spec = replace(LITE0, input_hw=(128, 128), fusion="fastattn")
    network = random_network(spec)
    with torch.no_grad():
        network.fpn.cells[1].nodes[0].combine.edge_weights.copy_(torch.tensor([0.0, 1.0]))
    flatbuffer = check_against_network(network)
    assert operators_of(flatbuffer)["RELU6"] == 1


def test_d0_is_written_in_nhwc_without_a_transpose() -> None:
    kinds = operators_of(tflite_from_graph(random_graph(replace(D0, input_hw=(128, 128))))[0])
    partitions = kinds.pop("DELEGATE")
    assert set(kinds) == {
        "DEQUANTIZE",
        "SUB",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "LOGISTIC",
        "MUL",
        "ADD",
        "MEAN",
        "MAX_POOL_2D",
        "RESIZE_NEAREST_NEIGHBOR",
    }
    assert kinds["CONV_2D"] + kinds["DEPTHWISE_CONV_2D"] == 213
    assert partitions == 13  # one more than there are resizes


def test_only_the_nearest_resize_is_outside_xnnpack() -> None:
    for spec in (D0, LITE0):
        small = replace(spec, input_hw=(128, 128))
        flatbuffer, _ = tflite_from_graph(random_graph(small))
        assert set(outside_xnnpack(flatbuffer)) == {"RESIZE_NEAREST_NEIGHBOR"}


def test_lite0_fuses_every_relu6() -> None:
    kinds = operators_of(tflite_from_graph(random_graph(replace(LITE0, input_hw=(128, 128))))[0])
    assert kinds["RELU6"] == 0
    assert kinds["MUL"] == 0


def test_nearest_resize_is_exact_at_every_ratio_that_levels_can_have() -> None:
    """From ceil(n / 2) to n for each n, which covers each size of a level, against PyTorch."""
    for size in range(2, 130):
        small = (size + 1) // 2
        builder = TfliteBuilder()
        x = builder.tensor("x", (1, small, small, 1), np.float32)
        y = builder.tensor("y", (1, size, size, 1), np.float32)
        wanted = builder.constant("size", np.array([size, size], np.int32))
        builder.op("RESIZE_NEAREST_NEIGHBOR", [x, wanted], [y], alignCorners=False, halfPixelCenters=False)
        values = np.arange(small * small, dtype=np.float32).reshape(1, small, small, 1)
        interpreter = open_interpreter(builder.finished([x], [y]))
        interpreter.set_tensor(x, values)
        interpreter.invoke()
        reference = torch.nn.functional.interpolate(torch.from_numpy(values).permute(0, 3, 1, 2), (size, size))
        np.testing.assert_array_equal(interpreter.get_tensor(y), reference.permute(0, 2, 3, 1).numpy())


def test_the_heads_store_their_shared_weights_once() -> None:
    """Five levels use the same depthwise weights; the file is no larger than the ONNX file, which shares them too."""
    model = random_graph(replace(D0, input_hw=(128, 128)))
    flatbuffer, _ = tflite_from_graph(model)
    assert len(flatbuffer) < model.ByteSize()


def test_constants_are_aligned_for_vector_loads() -> None:
    weights = np.arange(40, dtype=np.float32)
    builder = TfliteBuilder()
    builder.constant("odd", np.zeros(3, np.int8))
    builder.constant("weights", weights)
    assert builder.finished([], []).index(weights.tobytes()) % ALIGNMENT == 0


def test_d0_is_written_in_five_seconds_of_a_processor(tmp_path: Path) -> None:
    network = random_network(D0)
    model = graph_of(network)
    started_s = time.process_time()
    write_tflite(model, meta_of(D0), tmp_path / "d0.tflite")
    assert time.process_time() - started_s < 5.0


def test_the_file_carries_its_metadata_and_names_its_outputs(tmp_path: Path) -> None:
    spec = replace(D0, input_hw=(128, 128))
    written = write_tflite(random_graph(spec), meta_of(spec), tmp_path / "d0.tflite")
    meta, flatbuffer = read_trailer(tmp_path / "d0.tflite")
    assert meta == written
    assert meta.precision == "fp32"
    outputs = open_interpreter(flatbuffer).get_output_details()
    assert tuple(item["name"] for item in outputs) == meta.outputs
    assert [tuple(item["shape"]) for item in outputs[:5]] == [(1, n, n, 27) for n in (16, 8, 4, 2, 1)]
    assert [tuple(item["shape"]) for item in outputs[5:]] == [(1, n, n, 36) for n in (16, 8, 4, 2, 1)]


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    spec = replace(D0, input_hw=(128, 128))
    model = random_graph(spec)
    for name in ("a.tflite", "b.tflite"):
        write_tflite(model, meta_of(spec), tmp_path / name)
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


@pytest.mark.parametrize(
    ("op_type", "key", "value", "complaint"),
    [
        ("Sigmoid", "op_type", "HardSwish", "node backbone.conv_stem.sigmoid is a HardSwish"),
        ("Conv", "group", 3, "convolution backbone.conv_stem is grouped"),
        ("Resize", "mode", "linear", r"Resize .*upsample is \(b'linear'"),
        ("Cast", "op_type", "Identity", r"node pixels.float: the graph starts with \['Identity'"),
    ],
    ids=["operator", "groups", "resize", "beginning"],
)
def test_an_unknown_graph_is_refused_naming_the_node(
    op_type: str, key: str, value: str | int, complaint: str, tmp_path: Path
) -> None:
    spec = replace(D0, input_hw=(128, 128))
    model = random_graph(spec)
    node = next(node for node in model.graph.node if node.op_type == op_type)
    if key == "op_type":
        node.op_type = value
    else:
        next(item for item in node.attribute if item.name == key).CopyFrom(helper.make_attribute(key, value))
    with pytest.raises(UnsupportedError, match=complaint):
        write_tflite(model, meta_of(spec), tmp_path / "x.tflite")
    assert list(tmp_path.iterdir()) == []


def test_export_writes_and_verifies_the_tflite_file_beside_the_onnx_file(tmp_path: Path) -> None:
    json_file = tmp_path / "figures.json"
    command = ["export", "--weights", "demo", "--size", "128x192", "--tflite", "--threads", "1"]
    assert main([*command, "--out", str(tmp_path), "--name", "small", "--json", str(json_file)]) == 0
    written = json.loads(json_file.read_text())["tflite"]
    assert written["path"] == str(tmp_path / "small.tflite")
    assert written["max_relative_difference"] < TOLERANCE
    meta, _ = read_trailer(tmp_path / "small.tflite")
    assert meta.report["verify"]["reference"] == "network in PyTorch"
