"""Running engines, against SIMULATED TensorRT, pycuda, cuda-python and CUDA graphs (simulated_*.py).

The simulated engine is onnxruntime, so outputs equal the ONNX file's; whether a GPU's do is for a board to say.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simulated_cuda
import trt_api
from simulated_driver import STREAMS, VIOLATIONS, Stream, forget_binding
from trt_models import SPEC, build_unjudged, simulate, write_models

from edgedet import demo
from edgedet.board.build import BuildRequest, build_model
from edgedet.cli import main
from edgedet.detector import Detector
from edgedet.engines.base import open_engine, rebuild_model
from edgedet.engines.tensorrt import cuda as trt_cuda
from edgedet.engines.tensorrt.cuda import open_cuda
from edgedet.engines.tensorrt.engine import TrtEngine
from edgedet.engines.tensorrt.engine_file import add_to_report, read_engine
from edgedet.errors import (
    ArtifactError,
    ClosedError,
    DeviceError,
    MissingDependency,
    OutdatedError,
    ShapeError,
    UnsupportedError,
)

V = "10.3.0"
NAMES = {"tiny.onnx", "tiny_int8.onnx", "tiny_int8_fp16.onnx", "tiny_int8.engine"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and an INT8 engine of V, to copy."""
    folder = tmp_path_factory.mktemp("built")
    int8 = write_models(folder)
    with pytest.MonkeyPatch.context() as patch:
        simulate(patch, folder / "simulation", V)
        build_model(BuildRequest(int8, tune=False))
    return int8.with_suffix(".engine")


@pytest.fixture(scope="module")
def built_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Give an INT8 engine of a version, of the models that ``write_models`` writes; each is built once."""

    @functools.cache
    def engine_of(version: str, **options: int) -> Path:
        folder = tmp_path_factory.mktemp("built")
        with pytest.MonkeyPatch.context() as patch:
            simulate(patch, folder / "simulation", version)
            return build_unjudged(write_models(folder, **options))

    return engine_of


@pytest.fixture
def here(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine with its ONNX files beside it, on the machine that it was built on."""
    for name in NAMES:
        shutil.copy(built.with_name(name), tmp_path)
    simulate(monkeypatch, tmp_path, V)
    return tmp_path / "tiny_int8.engine"


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (1, *SPEC.input_hw, 3), dtype=np.uint8)


def load(path: Path, **options) -> TrtEngine:
    meta, plan = read_engine(path)
    return TrtEngine(importlib.import_module("tensorrt"), open_cuda(), meta, plan, **options)


# --- frames -----------------------------------------------------------------------------------------------------


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


@pytest.fixture(scope="module", autouse=True)
def earlier_tests_are_left_out_of_collections():
    """With what they keep, each collection took 0.2 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_freed_without_a_context():
    forget_binding()  # an earlier test of this thread may have bound the device
    VIOLATIONS.clear()
    yield
    gc.collect()
    assert VIOLATIONS == []


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


# --- failures ---------------------------------------------------------------------------------------------------


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


# --- the file ---------------------------------------------------------------------------------------------------


def test_the_file_says_what_it_is_and_where_it_belongs(here: Path, capsys):
    report = json.loads(zipfile.ZipFile(here).read("edgedet.json"))["report"]["engine"]
    assert report["built_on"] == {"tensorrt": V, "gpu": "Simulated Orin", "compute_capability": "8.7", "system": ""}
    assert report["onnx"]["name"] == "tiny_int8.onnx"
    assert main(["info", str(here)]) == 0
    shown = capsys.readouterr().out
    assert "precision   int8" in shown
    assert "tensorrt 10.3.0" in shown


@pytest.mark.parametrize("damage", ["byte", "cut", "plan only", "empty"])
def test_a_damaged_file_never_reaches_tensorrt(damage: str, here: Path, monkeypatch):
    data = here.read_bytes()
    flipped = bytearray(data)
    flipped[len(read_engine(here)[1]) // 2] ^= 1
    here.write_bytes(
        {"byte": bytes(flipped), "cut": data[:-100], "plan only": read_engine(here)[1], "empty": b""}[damage]
    )
    monkeypatch.setenv("SIMULATED_FAULT", "load")  # would be another message
    with pytest.raises(ArtifactError, match=r"tiny_int8\.engine is (damaged|cut off)"):
        open_engine(here, 1)


def test_a_file_of_another_format_with_our_trailer_is_told(here: Path):
    meta, plan = read_engine(here)
    add_to_report(here, meta, plan, {})
    bare = replace(meta, report={})
    from edgedet.engines.tflite_file import with_trailer

    here.write_bytes(with_trailer(plan, bare))
    with pytest.raises(ArtifactError, match=r"was not built by `edgedet build`: build it from its ONNX file"):
        open_engine(here, 1)


# --- another board ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", ["10.13.3.9", "11.4.0.106"])
def test_an_engine_of_another_tensorrt_is_built_again(now: str, here: Path, pixels, monkeypatch, tmp_path, capsys):
    simulate(monkeypatch, tmp_path, now)
    before = here.read_bytes()
    with pytest.raises(OutdatedError, match=rf"was built elsewhere \(tensorrt {V} -> {now}\): `edgedet build "):
        open_engine(here, 1)
    assert here.read_bytes() == before
    rebuild_model(here)
    capsys.readouterr()
    with closing(open_engine(here, 1)[1]) as engine:
        assert engine.infer(pixels).class_logits.any()
    report = read_engine(here)[0].report["engine"]
    assert report["built_on"]["tensorrt"] == now
    assert report["rebuilt_because"] == [f"tensorrt {V} -> {now}"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("named", [True, False])
def test_run_says_that_it_builds_an_engine_of_another_tensorrt_again(
    named: bool, here: Path, monkeypatch, tmp_path: Path, capsys
):
    simulate(monkeypatch, tmp_path, "10.13.3.9")
    monkeypatch.chdir(tmp_path)
    if not named:  # then it is the newest of the export's folder
        shutil.copytree(tmp_path, tmp_path / "edgedet-out", ignore=lambda folder, names: set(names) - NAMES)
        here = Path("edgedet-out") / here.name
        here.touch()
    words = ["run", *([str(here)] if named else []), "--source", str(demo.CLIP), "--limit", "1"]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert f"edgedet: {here} was built elsewhere (tensorrt {V} -> 10.13.3.9): `edgedet build " in said
    assert f"edgedet: building {here} again as it was, which takes minutes\n" in said
    assert read_engine(here)[0].report["engine"]["built_on"]["tensorrt"] == "10.13.3.9"
    assert main(words) == 0
    assert "built elsewhere" not in capsys.readouterr().err  # and not once more


def test_a_recipe_survives_the_rebuild(here: Path, monkeypatch, tmp_path: Path):
    meta, plan = read_engine(here)
    recipe = {**meta.report["engine"]["recipe"], "name": "int8, depthwise fp16", "to_float": ["depthwise"]}
    add_to_report(here, meta, plan, {"recipe": recipe})
    simulate(monkeypatch, tmp_path, "10.13.3.9")
    rebuild_model(here)
    assert read_engine(here)[0].report["engine"]["recipe"] == recipe


def test_another_gpu_is_named(here: Path, monkeypatch, capsys):
    monkeypatch.setattr(simulated_cuda, "GPU_NAME", "Thor")
    monkeypatch.setattr(simulated_cuda, "CAPABILITY", (11, 0))
    with pytest.raises(OutdatedError, match=r"\(gpu Simulated Orin -> Thor; compute_capability 8.7 -> 11.0\)"):
        open_engine(here, 1)


def test_without_its_onnx_file_an_engine_of_elsewhere_is_refused(here: Path, monkeypatch, tmp_path: Path):
    before = here.read_bytes()
    here.with_suffix(".onnx").unlink()
    simulate(monkeypatch, tmp_path, "11.4.0.106")
    with pytest.raises(
        ArtifactError, match=r"built elsewhere \(tensorrt .*\), and tiny_int8\.onnx is not beside it: `edgedet build "
    ):
        open_engine(here, 1)
    assert here.read_bytes() == before


def test_another_onnx_file_of_that_name_is_not_built_instead(here: Path, monkeypatch, tmp_path: Path):
    onnx = here.with_suffix(".onnx")
    shutil.copy(here.with_name("tiny.onnx"), onnx)
    simulate(monkeypatch, tmp_path, "10.13.3.9")
    with pytest.raises(ArtifactError, match=r"and tiny_int8\.onnx has changed since: `edgedet build "):
        open_engine(here, 1)


def test_an_onnx_file_that_changed_since_is_told(here: Path, capsys):
    shutil.copy(here.with_name("tiny.onnx"), here.with_suffix(".onnx"))
    open_engine(here, 1)[1].close()
    assert "tiny_int8.onnx has changed since" in capsys.readouterr().err


def test_a_file_that_is_not_bound_to_a_machine_is_not_built_again(here: Path):
    with pytest.raises(UnsupportedError, match="is not built on the machine that runs it"):
        rebuild_model(here.with_suffix(".onnx"))


def test_a_build_that_fails_on_the_new_board_keeps_the_old_engine(here: Path, monkeypatch, tmp_path: Path):
    before = here.read_bytes()
    simulate(monkeypatch, tmp_path, "10.13.3.9")
    monkeypatch.setenv("SIMULATED_FAULT", "memory")
    with pytest.raises(DeviceError, match="no memory to build int8"):
        rebuild_model(here)
    assert here.read_bytes() == before
    assert [path.name for path in tmp_path.glob(".*")] == []


# --- commands ---------------------------------------------------------------------------------------------------


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


# --- several pictures at once -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", trt_api.versions())
def test_an_engine_for_several_cameras_has_a_profile_for_each_number(
    version: str, built_by, monkeypatch, tmp_path: Path
):
    """Three pictures, one, two: each as if it were alone, whatever ran before."""
    paths = built_by(version, top_anchors=100, max_batch=3), built_by(version, top_anchors=100)
    simulate(monkeypatch, tmp_path, version)
    pixels = np.random.default_rng(5).integers(0, 256, (3, *SPEC.input_hw, 3), dtype=np.uint8)
    engines = (open_engine(path, 1)[1] for path in paths)
    with closing(next(engines)) as many, closing(next(engines)) as one:
        assert (many.max_batch, one.max_batch) == (3, 1)
        for count in (3, 1, 2):
            raws = many.infer_batch(pixels[:count])
            assert len(raws) == count
            for at, raw in enumerate(raws):
                alone = one.infer(pixels[at : at + 1])
                np.testing.assert_array_equal(raw.anchor_ids, alone.anchor_ids)
                np.testing.assert_array_equal(raw.class_logits, alone.class_logits)
        with pytest.raises(ShapeError, match="up to 3"):
            many.infer_batch(np.concatenate([pixels, pixels]))
    assert not VIOLATIONS


@pytest.mark.parametrize("use_graph", [True, False])
@pytest.mark.parametrize("zero_copy", [True, False])
def test_batches_run_with_and_without_graphs_and_copies(use_graph, zero_copy, built_by, monkeypatch, tmp_path: Path):
    path = built_by(V, max_batch=2)
    simulate(monkeypatch, tmp_path, V)
    pixels = np.random.default_rng(6).integers(0, 256, (2, *SPEC.input_hw, 3), dtype=np.uint8)
    with closing(load(path, zero_copy=zero_copy, use_graph=use_graph)) as engine:
        first, second = (raw.class_logits.copy() for raw in engine.infer_batch(pixels))
        assert engine.uses_graph == use_graph
        np.testing.assert_array_equal(engine.infer(pixels[1:]).class_logits, second)
        np.testing.assert_array_equal(engine.infer(pixels[:1]).class_logits, first)
