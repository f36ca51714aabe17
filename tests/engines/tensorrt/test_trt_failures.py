"""A GPU that is lost, what a SIMULATED TensorRT refuses, and packages that are missing are each told in one line."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from trt_built import V, load
from trt_models import simulate

from edgedet import demo
from edgedet.cli import main
from edgedet.engines.base import open_engine
from edgedet.engines.tensorrt import cuda as trt_cuda
from edgedet.engines.tensorrt.cuda import open_cuda
from edgedet.engines.tensorrt.engine import TrtEngine
from edgedet.errors import (
    ArtifactError,
    DeviceError,
    MissingDependency,
)

pytestmark = pytest.mark.usefixtures("nothing_is_freed_without_a_context")


@pytest.mark.parametrize("cuda", ["pycuda", "cuda-python"])
def test_a_gpu_lost_between_frames_is_told_in_one_line(cuda: str, here: Path, pixels, monkeypatch, tmp_path: Path):
    simulate(monkeypatch, tmp_path, V, cuda)
    engine = load(here)
    engine.infer(pixels)
    monkeypatch.setenv("SIMULATED_FAULT", "lost")
    with pytest.raises(DeviceError, match=r"^the GPU failed \(.*unspecified launch failure\): start again; .*restart"):
        engine.infer(pixels)
    engine.close()  # asks nothing of a GPU that is gone


def test_a_frame_that_tensorrt_refuses_is_told(here: Path, pixels, monkeypatch):
    with closing(load(here, use_graph=False)) as engine:
        monkeypatch.setenv("SIMULATED_FAULT", "enqueue")
        with pytest.raises(DeviceError, match=r"could not run a frame \(\[cudaDriverHelpers\] device is lost\)"):
            engine.infer(pixels)


def test_a_gpu_lost_in_mid_stream_ends_run_with_what_was_found(here: Path, tmp_path: Path, monkeypatch, capsys):
    """The JSON lines of the frames before are whole."""
    frames = iter(range(100))
    infer = TrtEngine.infer

    def third_fails(self, pixels):
        if next(frames) == 3:
            monkeypatch.setenv("SIMULATED_FAULT", "lost")
        return infer(self, pixels)

    monkeypatch.setattr(TrtEngine, "infer", third_fails)
    code = main(["run", str(here), "--source", str(demo.CLIP), "--jsonl", str(tmp_path / "out.jsonl")])
    assert code == 4
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("edgedet: the GPU failed (cuStreamSynchronize failed: unspecified launch failure)")


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("load", ArtifactError, r"tiny_int8\.engine: TensorRT 10\.3\.0 cannot load it \(Version tag does not match"),
        ("context", DeviceError, r"^no memory to run the engine"),
        ("allocate", DeviceError, r"^the GPU has no memory left \(cuMemHostAlloc failed: out of memory\)"),
        ("runtime", DeviceError, r"^TensorRT 10\.3\.0 does not start \(CUDA initialization failure with error: 35\)"),
        ("gpu", DeviceError, r"^no GPU can be used: cuDeviceGet failed: no CUDA-capable device is detected\.$"),
        ("lost", DeviceError, r"^the GPU failed \(cuStreamSynchronize"),
    ],
)
def test_an_engine_that_cannot_be_opened_is_told_in_one_line(fault: str, kind, said: str, here: Path, monkeypatch):
    monkeypatch.setenv("SIMULATED_FAULT", fault)
    with pytest.raises(kind, match=said):
        open_engine(here, 1)


def test_neither_pycuda_nor_cuda_python_is_told(here: Path, monkeypatch):
    monkeypatch.setattr(trt_cuda, "import_module", lambda name: (_ for _ in ()).throw(ModuleNotFoundError(name)))
    with pytest.raises(
        MissingDependency, match=r"need pycuda or cuda-python, and neither can be imported: `edgedet doctor` prints"
    ):
        open_engine(here, 1)


def test_a_pycuda_that_does_not_load_is_told_with_its_reason(here: Path, monkeypatch):
    def refuse(name):
        if name == "pycuda.driver":
            raise ImportError("libcuda.so.1: cannot open shared object file")
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(trt_cuda, "import_module", refuse)
    with pytest.raises(MissingDependency, match=r"\(pycuda\.driver does not load: libcuda\.so\.1: cannot open"):
        open_cuda()
