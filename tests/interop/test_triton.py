"""`--for triton`: a model repository whose configuration says what the file's inputs and outputs are, and a client."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from kserve_server import kserve_server

from edgedet import Detector, demo
from edgedet.export.interop import triton
from edgedet.export.interop.target import Request
from edgedet.postprocess import ORIGINALS
from edgedet.preprocess import Preprocessor, fit
from edgedet.types import Frame

TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(int32)": "TYPE_INT32", "tensor(float)": "TYPE_FP32"}


@pytest.fixture(params=["one", "batch"])
def either_request(request: pytest.FixtureRequest) -> Request:
    """Of a model that takes one picture, and of one that takes up to 4."""
    name = "request_for_files" if request.param == "one" else "request_for_batch"
    either: Request = request.getfixturevalue(name)
    return either


def test_the_configuration_agrees_with_the_file(either_request: Request) -> None:
    """Triton adds the batch to the shapes of a model whose max_batch_size is not 0."""
    triton.write(either_request)
    folder = either_request.folder / "repository/street"
    session = onnxruntime.InferenceSession(str(folder / "1/model.onnx"))
    config = (folder / "config.pbtxt").read_text()
    many = "max_batch_size: 4" in config
    for value in (*session.get_inputs(), *session.get_outputs()):
        assert value.shape[0] == ("batch" if many else 1)
        dims = ", ".join(map(str, value.shape[1:] if many else value.shape))
        assert f'name: "{value.name}" data_type: {TYPES[value.type]} dims: [ {dims} ]' in config
    assert re.search('^name: "street"$', config, re.MULTILINE)
    assert many == ("dynamic_batching" in config) == (either_request.meta.max_batch > 1)


def test_tritonclient_parses_the_configuration(either_request: Request) -> None:
    """The package's own protobuf message; no server."""
    for name in ("grpc", "tritonclient"):
        pytest.importorskip(name, reason="needs tritonclient[grpc]")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as message

    triton.write(either_request)
    most = either_request.meta.max_batch
    for repository, engine in (("repository", ("onnxruntime", "")), ("repository-tensorrt", ("", "tensorrt_plan"))):
        text = (either_request.folder / repository / "street/config.pbtxt").read_text()
        config = text_format.Parse(text, message.ModelConfig())
        assert (config.backend, config.platform) == engine
        assert (config.max_batch_size, config.HasField("dynamic_batching")) == (
            (most, True) if most > 1 else (0, False)
        )
        shape = [256, 384, 3] if most > 1 else [1, 256, 384, 3]
        assert [list(item.dims) for item in config.input] == [shape]
        assert [sample.batch_size for sample in config.model_warmup] == ([1, most] if most > 1 else [0])
        assert all(sample.inputs["pixels"].zero_data for sample in config.model_warmup)
        assert all(list(sample.inputs["pixels"].dims) == shape for sample in config.model_warmup)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_each_picture_of_a_batch_gets_the_boxes_of_edgedet_run(count: int, request_for_batch: Request) -> None:
    """By onnxruntime, as Triton's backend; and edgedet itself takes the batch."""
    triton.write(request_for_batch)
    path = request_for_batch.folder / "repository/street/1/model.onnx"
    session = onnxruntime.InferenceSession(str(path))
    clip = demo.clip_frames(4)
    pictures = [cv2.flip(bgr, 1) if at % 2 else bgr for at, bgr in enumerate(clip)][4 - count :]
    boxes_of_all = 0
    with Detector(str(request_for_batch.files.onnx), 1, 0.1) as raw, Detector(str(path), 1, 0.1) as finished:
        preprocess = Preprocessor(raw.meta.spec)
        inputs = [(np.array(frame.pixels), frame.scale_to_source) for frame in map(preprocess, pictures)]
        found = session.run(["num", "boxes", "scores", "classes"], {"pixels": np.concatenate([i for i, _ in inputs])})
        own = finished.detect_batch([Frame(bgr, 0.0, at) for at, bgr in enumerate(pictures)])
        for at, bgr in enumerate(pictures):
            expected, n = raw(bgr), int(found[0][at, 0])
            limits = np.array([bgr.shape[1], bgr.shape[0]] * 2)
            boxes = np.clip(found[1][at, :n] * inputs[at][1], 0, limits)
            assert n == len(expected) == len(own[at].detections)
            np.testing.assert_allclose(boxes, expected.boxes_xyxy, atol=0.01)
            np.testing.assert_allclose(found[2][at, :n], expected.scores, atol=1e-5)
            np.testing.assert_array_equal(found[3][at, :n], expected.class_ids)
            np.testing.assert_allclose(own[at].detections.boxes_xyxy, expected.boxes_xyxy, atol=0.01)
            boxes_of_all += n
    assert boxes_of_all > 3 * count


def test_the_client_prints_the_boxes_of_edgedet(either_request: Request, tmp_path: Path) -> None:
    """Asked over HTTP: a simulation of the server, with onnxruntime behind it."""
    pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
    triton.write(either_request)
    session = onnxruntime.InferenceSession(str(either_request.folder / "repository/street/1/model.onnx"))
    names = [value.name for value in session.get_outputs()]

    def model(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, inputs), strict=True))

    bgr = demo.clip_frames(1)[0]
    cv2.imwrite(str(tmp_path / "photo.png"), bgr)
    client = either_request.folder / "client.py"
    with kserve_server("street", model) as address:
        command = [sys.executable, str(client), str(tmp_path / "photo.png"), address]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    rows = [line.split(maxsplit=2) for line in printed.splitlines()]
    expected = Detector(str(either_request.files.onnx), 1, score=0.1)(bgr)
    assert len(rows) == len(expected) > 3
    assert [int(class_id) for class_id, _, _ in rows] == expected.class_ids.tolist()
    np.testing.assert_allclose([float(score) for _, score, _ in rows], expected.scores, atol=0.002)
    h, w = bgr.shape[:2]
    boxes = np.clip([json.loads(box) for _, _, box in rows], 0, [w, h, w, h])
    np.testing.assert_allclose(boxes, expected.boxes_xyxy, atol=0.5)


@pytest.mark.parametrize("family", ORIGINALS)
def test_the_client_cuts_sizes_off_as_the_models_code_base_does(family: str) -> None:
    """1280 x 720 into 448 has 251 or 252 rows; the fit of 200 other pictures is that of edgedet, too."""
    sizes = [(720, 1280), *np.random.default_rng(0).integers(100, 4000, (200, 2)).tolist()]
    for source_hw in sizes:
        values = {"np": np, "bgr": np.empty((*source_hw, 0)), "H": 448, "W": 448}
        exec(triton.FITS[family], values)
        scale_to_source, fitted_hw = fit(source_hw, (448, 448), family)
        assert (values["h"], values["w"]) == fitted_hw
        across, down = np.broadcast_to(scale_to_source, 2)
        np.testing.assert_allclose(np.broadcast_to(values["to_source"], 4), [across, down] * 2, rtol=1e-6)
    assert fit((720, 1280), (448, 448), family)[1] == ((252, 448) if family == "automl" else (251, 448))


def test_the_client_is_as_short_as_promised(request_for_files: Request) -> None:
    triton.write(request_for_files)
    source = (request_for_files.folder / "client.py").read_text()
    assert 'MODEL, H, W, FILL_BGR = "street", 256, 384, (104, 116, 124)' in source
    assert len(source.splitlines()) <= 30
