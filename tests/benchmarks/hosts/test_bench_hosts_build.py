"""`edgedet bench --host --build`: boards behind real SSH servers on loopback build engines on a SIMULATED TensorRT."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from sshd import SSHD, make_key, ssh_server, write_client_config
from trt_models import write_models, write_shims

from edgedet import cli
from edgedet.board.build import files_of_build

FAST = ("--threads", "1", "--runs", "2", "--seconds", "0", "--warmup", "0")


@pytest.fixture
def boards(tmp_path, monkeypatch):
    """In hosts.yaml: orin with TensorRT 10.3, and refuses, whose TensorRT can build nothing; and a model."""
    pytest.importorskip("yaml", reason="hosts.yaml is read by PyYAML (edgedet[bench])")
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH's client and server (openssh-server)")
    monkeypatch.chdir(tmp_path)
    write_models(tmp_path)
    key = make_key(tmp_path / "key")
    simulated = {"PYTHONPATH": str(write_shims(tmp_path)), "SIMULATED_TENSORRT": "10.3.0", "OMP_NUM_THREADS": "1"}
    faults = {"orin": {}, "refuses": {"SIMULATED_FAULT": "build"}}
    with ExitStack() as held:
        servers = {
            name: held.enter_context(ssh_server(tmp_path / name, key, {**simulated, **fault}))
            for name, fault in faults.items()
        }
        write_client_config(tmp_path / "ssh.conf", key, {name: server.port for name, server in servers.items()})
        hosts = [f"  {name}: {{python: {sys.executable}}}" for name in faults]
        Path("hosts.yaml").write_text("\n".join(["ssh_config: ssh.conf", "hosts:", *hosts]) + "\n")
        yield servers


def bench(*hosts: str) -> int:
    command = ["bench", "--model", "tiny_int8.onnx", "--build", *FAST, "--json", "boards.json"]
    return cli.main([*command, "--host", *hosts])


def results() -> list[dict]:
    return json.loads(Path("boards.json").read_text())["hosts"]


@pytest.mark.slow
def test_each_board_builds_its_engine_once_and_a_refused_build_is_that_boards_failure(boards, capsys):
    assert bench("orin", "refuses") == 1
    err = capsys.readouterr().err
    assert "orin: sending tiny.onnx" in err  # by which the engine is judged
    assert "orin: building an engine of tiny_int8.onnx" in err
    assert "orin: judged against tiny.onnx" in err
    orin, refuses = results()
    (row,) = orin["result"]["models"]
    assert Path(row["model"]).name == "tiny_int8.engine"
    assert orin["builds"][0]["engine_sha256"] == row["model_sha256"]
    assert orin["failure"] is None
    assert "TensorRT could not build" in refuses["failure"]
    assert (refuses["result"], refuses["builds"]) == (None, [])
    assert not list((boards["refuses"].cache / "edgedet/hosts").glob("engine-*/*.engine"))

    assert bench("orin") == 0
    err = capsys.readouterr().err
    assert "orin: the engine of tiny_int8.onnx is there already" in err
    assert "sending" not in err
    assert results()[0]["builds"] == orin["builds"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "tiny_int8.onnx"], "--build goes with --host"),
        (["--model", "a.tflite", "--host", "orin"], "--build makes engines of .onnx files, and --model names none"),
    ],
)
def test_what_build_goes_with(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    Path("tiny_int8.onnx").touch()
    Path("a.tflite").touch()
    assert cli.main(["bench", "--build", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_files_that_a_build_reads_are_those_that_are_there(tmp_path):
    for name in ("a.onnx", "a_int8.onnx", "a_int8_fp16.onnx", "a_int8.table.json", "b_int8.onnx", "a_int8.tflite"):
        (tmp_path / name).touch()

    def names(model: str) -> list[str]:
        return [path.name for path in files_of_build(tmp_path / model)]

    assert names("a_int8.onnx") == ["a_int8.onnx", "a.onnx", "a_int8_fp16.onnx", "a_int8.table.json"]
    assert names("a_int8_fp16.onnx") == ["a_int8_fp16.onnx", "a.onnx", "a_int8.onnx", "a_int8.table.json"]
    assert names("b_int8.onnx") == ["b_int8.onnx"]
    assert names("a.onnx") == ["a.onnx"]
