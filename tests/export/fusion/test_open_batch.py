"""A file that takes several pictures at once gives for each what it gives for that picture alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from models import random_network, random_pixels
from sparse_models import sparse_model

from edgedet import Detector
from edgedet.artifact import ArtifactMeta
from edgedet.calibration.placement.typed import make_typed_graph
from edgedet.engines.base import open_engine
from edgedet.errors import InputError, ShapeError
from edgedet.export.fusion.fuse import graph_from_network
from edgedet.export.fusion.open_batch import check_batch, close_batch, open_batch
from edgedet.export.onnx_file import finish_graph, read_graph, write_onnx
from edgedet.export.verify import verify
from edgedet.specs import SPECS, resized
from edgedet.types import Frame

SPEC = replace(resized(SPECS["tf_efficientdet_d0"], (128, 256)), num_classes=3)
NAMES = ("a", "b", "c")
RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (100 + 10 * number, 200, 3), dtype=np.uint8) for number in range(3)]


@pytest.fixture(scope="module")
def network():
    return random_network(SPEC)


@pytest.fixture(scope="module", params=[0, 500], ids=["all anchors", "best anchors"])
def files(request, network, tmp_path_factory) -> tuple[Path, Path]:
    """The same model for one picture and for up to three."""
    folder = tmp_path_factory.mktemp("batch")
    meta = ArtifactMeta(SPEC, NAMES, "fp32", "0" * 64).with_top_anchors(request.param)
    graph = graph_from_network(network, meta)
    write_onnx(graph, meta, folder / "one.onnx")
    write_onnx(graph, replace(meta, max_batch=3), folder / "three.onnx")
    return folder / "one.onnx", folder / "three.onnx"


def test_each_picture_of_a_batch_gets_its_own_outputs(files):
    pixels = RNG.integers(0, 256, (3, *SPEC.input_hw, 3), dtype=np.uint8)
    (_, one), (meta, three) = (open_engine(path, 1) for path in files)
    with one, three:
        assert (one.max_batch, three.max_batch, meta.max_batch) == (1, 3, 3)
        for count in (3, 1, 2, 3):
            raws = three.infer_batch(pixels[:count])
            assert len(raws) == count
            for at, raw in enumerate(raws):
                alone = one.infer(pixels[at : at + 1])
                np.testing.assert_allclose(raw.class_logits, alone.class_logits, atol=2e-5)
                np.testing.assert_allclose(raw.box_codes, alone.box_codes, atol=2e-5)
        with pytest.raises(ShapeError, match="up to 3 of them"):
            three.infer_batch(np.concatenate([pixels, pixels]))
        with pytest.raises(ShapeError, match="wants"):
            one.infer_batch(pixels[:2])


def test_the_detector_finds_in_each_frame_what_it_finds_alone(files):
    """Pictures of three sizes, each with its own scale and border."""
    frames = [Frame(picture, captured_s=0.0, index=index) for index, picture in enumerate(PICTURES)]
    with Detector(files[1], 1, 0.3) as detector:
        together = detector.detect_batch(frames)
        assert [result.frame for result in together] == frames
        for result in together:
            alone = detector(result.frame)
            assert len(alone) == len(result.detections) > 0
            np.testing.assert_allclose(result.detections.boxes_xyxy, alone.boxes_xyxy, atol=1e-2)
            assert set(result.timings_ms) == {"preprocess", "network", "postprocess"}
        for wrong in ([], frames * 2):
            with pytest.raises(InputError, match="1 to 3 Frames"):
                detector.detect_batch(wrong)


def test_verification_runs_the_batch(files, network):
    assert verify(files[1], network, PICTURES, 1).worst < 1e-5


def test_the_graph_of_one_picture_comes_back(files):
    (one, _), (again, _) = read_graph(files[0]), read_graph(files[1])
    assert [node.SerializeToString() for node in one.graph.node] == [
        node.SerializeToString() for node in again.graph.node
    ]
    constants = [
        {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer} for model in (one, again)
    ]
    assert constants[0].keys() == constants[1].keys()
    assert all(np.array_equal(constants[0][name], constants[1][name]) for name in constants[0])
    assert close_batch(one) is one


def test_int8_graphs_take_batches_in_both_forms():
    """Sparse for TensorRT up to 10, typed for 11: a batch gives what single pictures give."""
    import onnxruntime as ort

    _, sparse, _ = sparse_model(random_network(SPEC), random_pixels(SPEC))
    meta = ArtifactMeta(SPEC, NAMES, "int8", "0" * 64, max_batch=2).with_top_anchors(500)
    single = replace(meta, max_batch=1)
    pixels = RNG.integers(0, 256, (2, *SPEC.input_hw, 3), dtype=np.uint8)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1  # several divide sums of a batch in another way, and a rounding may fall elsewhere
    for form in (lambda model: model, make_typed_graph):
        many, one = (
            ort.InferenceSession(form(finish_graph(sparse, its)).SerializeToString(), options) for its in (meta, single)
        )
        logits, codes, ids = many.run(None, {"pixels": pixels})
        for at in range(2):
            expected = one.run(None, {"pixels": pixels[at : at + 1]})
            rows, others = np.argsort(ids[at]), np.argsort(expected[2][0])
            np.testing.assert_array_equal(ids[at][rows], expected[2][0][others])
            np.testing.assert_array_equal(logits[at][rows], expected[0][0][others])
            np.testing.assert_array_equal(codes[at][rows], expected[1][0][others])


def test_levels_that_are_no_halves_are_refused(network):
    odd = replace(SPEC, input_hw=(128, 192))
    with pytest.raises(InputError, match="multiples of 128; the input is 128x192"):
        check_batch(2, odd)
    check_batch(1, odd)
    with pytest.raises(InputError, match="1 to 16"):
        check_batch(17)
    other = random_network(odd)
    graph = graph_from_network(other, ArtifactMeta(odd, NAMES, "fp32", "0" * 64))
    with pytest.raises(InputError, match="each is half the one before"):
        open_batch(graph)
