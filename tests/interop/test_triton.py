"""`--for triton`: a model repository whose configuration says what the file's inputs and outputs are, and a client."""

from __future__ import annotations

import re

import onnxruntime
import pytest

from edgedet.export.interop import triton
from edgedet.export.interop.target import Request

TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(int32)": "TYPE_INT32", "tensor(float)": "TYPE_FP32"}


def test_the_configuration_agrees_with_the_file(request_for_files: Request) -> None:
    triton.write(request_for_files)
    folder = request_for_files.folder / "repository/street"
    session = onnxruntime.InferenceSession(str(folder / "1/model.onnx"))
    config = (folder / "config.pbtxt").read_text()
    for value in (*session.get_inputs(), *session.get_outputs()):
        dims = ", ".join(map(str, value.shape))
        assert f'name: "{value.name}" data_type: {TYPES[value.type]} dims: [ {dims} ]' in config
    assert re.search('^name: "street"$', config, re.MULTILINE)


def test_tritonclient_parses_the_configuration(request_for_files: Request) -> None:
    """The package's own protobuf message; no server."""
    for name in ("grpc", "tritonclient"):
        pytest.importorskip(name, reason="needs tritonclient[grpc], by hand: pip install 'tritonclient[grpc]'")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as message

    triton.write(request_for_files)
    text = (request_for_files.folder / "repository/street/config.pbtxt").read_text()
    config = text_format.Parse(text, message.ModelConfig())
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 0)
    assert [list(item.dims) for item in config.input] == [[1, 256, 320, 3]]
    assert config.model_warmup[0].inputs["pixels"].zero_data


def test_the_client_is_python_and_as_short_as_promised(request_for_files: Request) -> None:
    triton.write(request_for_files)
    source = (request_for_files.folder / "client.py").read_text()
    compile(source, "client.py", "exec")
    assert 'MODEL, H, W, FILL_BGR = "street", 256, 320, (104, 116, 124)' in source
    assert len(source.splitlines()) <= 45
