"""A build in a process of its own: its progress, its refusals, and its ends, of a SIMULATED TensorRT."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from trt_built import OPTIONS

from edgedet.engines.tensorrt import build_process as trt_child
from edgedet.engines.tensorrt.build import (
    Recipe,
)
from edgedet.engines.tensorrt.build_process import build
from edgedet.errors import DeviceError, UnsupportedError


def test_a_child_builds_and_tells_how_far_it_is(trt10, int8: Path, tmp_path: Path, capsys):
    built = build(Recipe("int8", str(int8), "int8"), OPTIONS, tmp_path / "plan")
    assert (tmp_path / "plan").stat().st_size == built.bytes > 1000
    assert built.layers > 20
    assert "building int8: 0 s" in capsys.readouterr().err


def test_what_libraries_print_does_not_disturb(trt10, int8: Path, tmp_path: Path, monkeypatch):
    noisy = tmp_path / "noise"
    noisy.mkdir()
    (noisy / "sitecustomize.py").write_text("print('{not JSON'); print('[1]'); print('words')")
    monkeypatch.syspath_prepend(noisy)
    assert build(Recipe("int8", str(int8), "int8"), OPTIONS, tmp_path / "plan").layers > 20


def test_what_a_child_refuses_comes_back_as_it_was(trt10, int8: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SIMULATED_FAULT", "build")
    with pytest.raises(UnsupportedError, match=r"^TensorRT could not build int8: Could not find any"):
        build(Recipe("int8", str(int8), "int8"), OPTIONS, tmp_path / "plan")
    assert not (tmp_path / "plan").exists()


def test_a_child_that_the_system_kills_is_told(trt10, int8: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SIMULATED_FAULT", "slow")
    popen = subprocess.Popen

    def spy(*args, **kwargs):
        started = popen(*args, **kwargs)
        started.kill()
        return started

    monkeypatch.setattr(trt_child.subprocess, "Popen", spy)
    with pytest.raises(
        DeviceError, match=r"^the system killed the build of int8, most likely for want of memory\. Close"
    ):
        build(Recipe("int8", str(int8), "int8"), OPTIONS, tmp_path / "plan")


def test_a_child_that_ends_without_a_word_is_told(trt10, int8: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SIMULATED_TENSORRT", "no such version")
    with pytest.raises(DeviceError, match=r"the build of int8 ended without a result: ValueError: "):
        build(Recipe("int8", str(int8), "int8"), OPTIONS, tmp_path / "plan")


@pytest.mark.parametrize(
    ("end", "exit_code"),
    [
        pytest.param(lambda pid: os.killpg(pid, signal.SIGINT), 130, id="Ctrl-C, to parent and child"),
        pytest.param(lambda pid: os.kill(pid, signal.SIGTERM), 143, id="SIGTERM, to the parent alone"),
    ],
)
def test_an_ended_build_ends_at_once_and_leaves_nothing(end, exit_code, trt10, int8: Path, tmp_path: Path, monkeypatch):
    """Also in TensorRT 8, which has no monitor to cancel by; by itself it would end after an hour."""
    monkeypatch.setenv("SIMULATED_FAULT", "slow")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    code = "import sys; from edgedet.cli import main; sys.exit(main(sys.argv[1:]))"
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("tiny_int8.onnx", "tiny.onnx"):
        (folder / name).write_bytes(int8.with_name(name).read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-c", code, "build", str(folder / "tiny_int8.onnx")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        for line in process.stderr:
            if line.startswith("building int8"):
                break
        end(process.pid)
        stderr = process.stderr.read()
    assert process.returncode == exit_code
    assert "Traceback" not in stderr
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.onnx", "tiny_int8.onnx"]
    with pytest.raises(ProcessLookupError):  # the child has ended as well
        os.killpg(process.pid, 0)
