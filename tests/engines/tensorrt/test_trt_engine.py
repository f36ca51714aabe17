"""Running engines, against SIMULATED TensorRT, pycuda, cuda-python and CUDA graphs (simulated_*.py).

The simulated engine is onnxruntime, so outputs equal the ONNX file's; whether a GPU's do is for a board to say.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import simulated_cuda
import trt_api
from simulated_driver import STREAMS, Stream
from trt_built import V, load
from trt_models import build_unjudged, simulate, write_models

from edgedet import demo
from edgedet.cli import main
from edgedet.detector import Detector
from edgedet.engines.base import open_engine
from edgedet.engines.tensorrt import cuda as trt_cuda
from edgedet.engines.tensorrt.cuda import open_cuda
from edgedet.engines.tensorrt.engine import TrtEngine
from edgedet.engines.tensorrt.engine_file import read_engine
from edgedet.errors import (
    ClosedError,
    ShapeError,
)

pytestmark = pytest.mark.usefixtures("nothing_is_freed_without_a_context")


@pytest.mark.parametrize("version", trt_api.versions())
@pytest.mark.parametrize("cuda", ["pycuda", "cuda-python"])
def test_outputs_are_those_of_the_onnx_file(version: str, cuda: str, built_by, pixels, monkeypatch, tmp_path: Path):
    path = built_by(version)
    simulate(monkeypatch, tmp_path, version, cuda)
    typed = version.startswith("11.")
    with closing(open_engine(path, 1)[1]) as engine:
        assert engine._cuda.package == cuda
        with closing(open_engine(path.with_name("tiny_int8_fp16.onnx" if typed else "tiny_int8.onnx"), 1)[1]) as other:
            for frame in (pixels, 255 - pixels):
                got, wanted = engine.infer(frame), other.infer(frame)
                np.testing.assert_array_equal(got.class_logits, wanted.class_logits)
                np.testing.assert_array_equal(got.box_codes, wanted.box_codes)


@pytest.mark.parametrize("version", trt_api.versions())
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_an_engine_hands_over_the_best_anchors_only(
    version: str, precision: str, built_by, monkeypatch, tmp_path: Path, pixels
):
    """100 of 3069, in whatever precision TensorRT ranks them; the detections are those of all anchors."""
    top = built_by(version, top_anchors=100)
    simulate(monkeypatch, tmp_path, version)
    every = write_models(tmp_path, "every")
    if precision == "fp16":
        top = build_unjudged(top.with_name("tiny.onnx"), precision)
    meta, engine = open_engine(top, 1)
    with engine:
        raw = engine.infer(pixels)
        assert (meta.top_anchors, raw.class_logits.shape, raw.box_codes.shape) == (100, (100, 2), (100, 4))
        with closing(open_engine(every if precision == "int8" else every.with_name("every.onnx"), 1)[1]) as other:
            wanted = other.infer(pixels)
        close = 0.02 if version.startswith("11.") else 1e-5  # FP16 between the integers, or another order of sums
        np.testing.assert_allclose(raw.class_logits, wanted.class_logits[raw.anchor_ids], atol=close)
        np.testing.assert_allclose(raw.box_codes, wanted.box_codes[raw.anchor_ids], atol=close)
        best = wanted.class_logits.max(1)
        assert best[raw.anchor_ids].min() >= np.sort(best)[-100] - close


@pytest.mark.parametrize("cuda", ["pycuda", "cuda-python"])
@pytest.mark.parametrize("zero_copy", [True, False])
@pytest.mark.parametrize("use_graph", [True, False])
def test_every_way_gives_the_same(cuda, zero_copy, use_graph, here: Path, pixels, monkeypatch, tmp_path: Path):
    simulate(monkeypatch, tmp_path, V, cuda)
    with closing(open_engine(here.with_suffix(".onnx"), 1)[1]) as other:
        wanted = other.infer(pixels).class_logits.copy()
    simulated_cuda.CALLS.clear()
    with closing(load(here, zero_copy=zero_copy, use_graph=use_graph)) as engine:
        assert (engine.zero_copy, engine.uses_graph) == (zero_copy, use_graph)
        asked = len(simulated_cuda.CALLS)
        first = engine.infer(pixels)
        np.testing.assert_array_equal(first.class_logits, wanted)
        engine.infer(255 - pixels)
        assert np.abs(first.class_logits - wanted).max() > 0  # the arrays are the engine's own, overwritten
        np.testing.assert_array_equal(engine.infer(pixels).class_logits, wanted)
        copies = simulated_cuda.CALLS[asked:]
        assert copies == ([] if zero_copy or use_graph else ["htod", "dtoh", "dtoh"] * 3)


def test_memory_is_shared_on_a_jetson_and_copied_on_a_card(here: Path, monkeypatch):
    with closing(load(here)) as engine:
        assert engine.zero_copy
    monkeypatch.setattr(simulated_cuda, "INTEGRATED", False)
    with closing(load(here)) as engine:
        assert not engine.zero_copy


def test_memory_is_copied_where_the_gpu_does_not_see_the_cpu_s_cache(here: Path, monkeypatch):
    cuda = open_cuda()
    monkeypatch.setattr(cuda, "gpu", lambda: trt_cuda.Gpu("TX2", "6.2", 1 << 30, 8 << 30, True))
    with closing(TrtEngine(importlib.import_module("tensorrt"), cuda, *read_engine(here))) as engine:
        assert not engine.zero_copy


def test_frames_allocate_nothing(here: Path, pixels):
    with closing(load(here)) as engine:
        raw = engine.infer(pixels)
        assert engine.infer(pixels).class_logits.ctypes.data == raw.class_logits.ctypes.data


@pytest.mark.parametrize("cuda", ["pycuda", "cuda-python"])
@pytest.mark.parametrize("use_graph", [True, False])
def test_another_thread_may_run_frames(cuda: str, use_graph: bool, here: Path, pixels, monkeypatch, tmp_path: Path):
    """A context is a thread's own; the simulation refuses calls of a thread that has none."""
    simulate(monkeypatch, tmp_path, V, cuda)
    with closing(load(here, use_graph=use_graph, zero_copy=False)) as engine, ThreadPoolExecutor(1) as thread:
        wanted = engine.infer(pixels).class_logits.copy()
        got = thread.submit(engine.infer, pixels).result().class_logits
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("cuda", ["pycuda", "cuda-python"])
def test_run_detects_with_either_way_to_cuda(cuda: str, here: Path, monkeypatch, tmp_path: Path, capsys):
    """The stream's loop infers in a thread that did not open the engine."""
    simulate(monkeypatch, tmp_path, V, cuda)
    assert main(["run", str(here), "--source", str(demo.CLIP), "--limit", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("3 frames in ")


def test_a_file_runs_on_one_engine_also_where_the_newest_export_is_taken(here: Path, monkeypatch, tmp_path: Path):
    """Files run on two copies of a CPU's model; a second engine would hold the GPU's memory twice."""
    exports = tmp_path / "edgedet-out"
    exports.mkdir()
    shutil.copy(here, exports)
    monkeypatch.chdir(tmp_path)
    opened = []
    make = TrtEngine.__init__
    monkeypatch.setattr(TrtEngine, "__init__", lambda self, *args, **kw: (opened.append(1), make(self, *args, **kw))[1])
    assert main(["run", "--source", str(demo.CLIP), "--limit", "2", "--threads", "4"]) == 0
    assert opened == [1]


def test_a_context_is_not_seen_by_another_thread(monkeypatch, tmp_path: Path):
    """Of the simulation: were its contexts the process's, a forgotten one would pass here."""
    simulate(monkeypatch, tmp_path, V, "cuda-python")
    runtime = importlib.import_module("cuda.bindings.runtime")
    runtime.cudaSetDevice(0)
    assert runtime.cudaMemGetInfo()[0] == 0
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(runtime.cudaMemGetInfo).result() == (201,)
        assert thread.submit(lambda: simulated_cuda.LibCuda().cuGraphLaunch(None, None)).result() == 201


def test_a_kernel_that_cannot_be_recorded_runs_without_a_graph(here: Path, pixels, monkeypatch, capsys):
    monkeypatch.setenv("SIMULATED_FAULT", "graph")
    with closing(load(here)) as engine:
        assert not engine.uses_graph
        assert engine.infer(pixels).class_logits.any()
    assert "no CUDA graph, frames are launched layer by layer: the GPU failed (cuStream" in capsys.readouterr().err


def test_pixels_of_another_shape_are_refused(here: Path):
    with (
        closing(load(here)) as engine,
        pytest.raises(ShapeError, match=r"wants \(1, 128, 128, 3\) uint8; got \(1, 8, 8"),
    ):
        engine.infer(np.zeros((1, 8, 8, 3), np.uint8))


def test_everything_is_freed(here: Path, monkeypatch, tmp_path: Path):
    simulate(monkeypatch, tmp_path, V, "cuda-python")
    runtime = importlib.import_module("cuda.bindings.runtime")
    load(here, zero_copy=False).close()
    load(here, zero_copy=True).close()
    assert runtime._held == {}
    forgotten = load(here)  # as by a program that does not close its Detector
    assert runtime._held != {}
    del forgotten
    gc.collect()
    assert runtime._held == {}


def test_closing_twice_is_no_error_and_a_closed_engine_says_so(here: Path, pixels):
    with load(here) as engine:
        engine.infer(pixels)
    engine.close()
    with pytest.raises(ClosedError, match="this engine was closed"):
        engine.infer(pixels)


@pytest.mark.parametrize("cuda", ["pycuda", "cuda-python"])
def test_a_program_that_closes_nothing_ends_quietly(cuda: str, here: Path, monkeypatch, tmp_path: Path):
    simulate(monkeypatch, tmp_path, V, cuda)
    code = (
        "import simulated_cuda; from edgedet.engines.tensorrt import cuda_graph\n"
        "cuda_graph.load_driver = simulated_cuda.LibCuda\n"
        f"from edgedet import Detector; detector = Detector({str(here)!r}, 1); print(detector.class_names)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "('cat', 'dog')\n", "")


def test_streams_are_simulated_to_run_only_when_waited_for():
    """Else a forgotten wait would pass here."""
    queue = Stream()
    done = []
    STREAMS[queue.handle].queue(lambda: done.append(1))
    assert done == []
    queue.wait()
    assert done == [1]


def test_the_detector_takes_an_engine(here: Path):
    (picture,) = demo.clip_frames(1)
    with Detector(here) as engine, Detector(here.with_suffix(".onnx"), 1) as onnx:
        np.testing.assert_array_equal(engine(picture).boxes_xyxy, onnx(picture).boxes_xyxy)
        assert len(engine(picture)) > 0


def test_bench_names_tensorrt(here: Path, capsys):
    command = ["bench", "--model", str(here), "--runs", "2", "--seconds", "0", "--warmup", "0", "--json"]
    assert main(command) == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    assert (row["engine"], row["precision"]) == (f"tensorrt {V}", "int8")
