"""Building engines, against a SIMULATED TensorRT of each version (simulated_tensorrt.py): what is asked of it, and what
comes of its refusals. Nothing here is TensorRT's own behaviour.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from trt_built import VERSIONS, all_convs, planned, quantised_convs
from trt_models import save_changed, simulate

from edgedet.calibration.placement.plan import read_initializers
from edgedet.calibration.placement.typed import make_typed_graph
from edgedet.engines.tensorrt import board as trt_board
from edgedet.engines.tensorrt.board import Board, Identity, import_tensorrt
from edgedet.engines.tensorrt.build import (
    LOW_MEMORY_BYTES,
    BuildOptions,
    Recipe,
    choose_file,
    choose_options,
)
from edgedet.engines.tensorrt.cuda import open_cuda
from edgedet.errors import ArtifactError, DeviceError, InputError, MissingDependency, UnsupportedError
from edgedet.machine import read_machine


def test_an_int8_file_is_built_as_it_is_written(trt, int8: Path):
    model = planned(trt, Recipe("int8", str(int8), "int8"))
    assert quantised_convs(model) == all_convs(model)
    typed = trt.__version__.startswith("11.")
    assert model.opset_import[0].version == (19 if typed else 17)


@pytest.mark.parametrize(
    ("parts", "taken"),
    [
        (("depthwise",), lambda name: "conv_dw" in name),
        (("stem", "heads"), lambda name: "stem" in name or "_net." in name),
    ],
)
def test_parts_are_taken_back_to_float_with_their_weights(trt, parts, taken, int8: Path):
    model = planned(trt, Recipe("some", str(int8), "int8", parts))
    everything = all_convs(model)
    assert quantised_convs(model) == {name for name in everything if not taken(name)}
    made = {name: node for node in model.graph.node for name in node.output}
    constants = {
        item.name: numpy_helper.to_array(item)
        for graph in (onnx.load(choose_file(trt, int8).path).graph, model.graph)
        for item in graph.initializer
    }
    for node in model.graph.node:
        if node.op_type == "Conv" and taken(node.name):
            assert node.input[1] not in made  # a constant: nothing is dequantised while frames run
            scales = constants[f"{node.name}.weight.scales"]
            exact = read_initializers(onnx.load(int8))[f"{node.name}.weight"]
            np.testing.assert_array_equal(constants[node.input[1]], exact.astype(scales.dtype))


@pytest.mark.parametrize("version", [version for version in VERSIONS if version.startswith("8.")])
def test_tensorrt_8_is_given_no_int8_constants(version: str, int8: Path, tmp_path: Path, monkeypatch):
    """It says "invalid weights type of Int8"; the simulation does too."""
    simulate(monkeypatch, tmp_path, version)
    trt = importlib.import_module("tensorrt")
    planned(trt, Recipe("int8", str(int8), "int8"))
    model = make_typed_graph(onnx.load(int8))  # has integers
    model.opset_import[0].version = 17
    save_changed(model, tmp_path / "integers.onnx")
    with pytest.raises(ArtifactError, match="invalid weights type of Int8"):
        planned(trt, Recipe("int8", str(tmp_path / "integers.onnx"), "int8"))


def test_fp16_of_an_int8_file_has_no_int8_left(trt, int8: Path):
    assert quantised_convs(planned(trt, Recipe("fp16", str(int8), "fp16"))) == set()


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_float_file_is_built_in_fp16_and_fp32(trt, precision: str, int8: Path):
    model = planned(trt, Recipe(precision, str(int8.with_name("tiny.onnx")), precision))
    assert len(all_convs(model)) == 14
    half = {item.name for item in model.graph.initializer if item.data_type == TensorProto.FLOAT16}
    weights = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:]}
    typed = trt.__version__.startswith("11.")  # there a flag decides nothing: the network itself must be FP16
    assert half == (weights if typed and precision == "fp16" else set())
    assert [value.type.tensor_type.elem_type for value in model.graph.output] == [TensorProto.FLOAT] * 2


def test_a_value_beyond_fp16_is_told(monkeypatch, tmp_path: Path, int8: Path):
    simulate(monkeypatch, tmp_path, "11.4.0.106")
    model = onnx.load(int8.with_name("tiny.onnx"))
    (bias,) = (item for item in model.graph.initializer if item.name == "backbone.conv_stem.bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(8, 7e4, np.float32), bias.name))
    save_changed(model, tmp_path / "big.onnx")
    with pytest.raises(UnsupportedError, match=r"^backbone\.conv_stem holds values beyond 65504, .* build with --fp32"):
        planned(importlib.import_module("tensorrt"), Recipe("fp16", str(tmp_path / "big.onnx"), "fp16"))


def test_parts_that_the_file_has_in_float_are_told(trt10, int8: Path, tmp_path: Path):
    """As files of `edgedet export` have depthwise: building the same engine again would cost minutes."""
    model = onnx.load(int8)
    for node in model.graph.node:
        if ".conv_dw" in node.name and node.op_type == "Conv":
            node.name = "renamed"
    save_changed(model, tmp_path / "some_int8.onnx")
    with pytest.raises(UnsupportedError, match=r"^some_int8\.onnx has depthwise in float already$"):
        planned(trt10, Recipe("x", str(tmp_path / "some_int8.onnx"), "int8", ("depthwise",)))


def test_strong_typing_alone_takes_the_fp16_emission_beside_the_file(trt, int8: Path):
    typed = trt.__version__.startswith("11.")
    assert choose_file(trt, int8).path.name == ("tiny_int8_fp16.onnx" if typed else "tiny_int8.onnx")


def test_a_missing_fp16_emission_is_told(monkeypatch, tmp_path: Path, int8: Path):
    simulate(monkeypatch, tmp_path, "11.4.0.106")
    alone = tmp_path / "alone_int8.onnx"
    alone.write_bytes(int8.read_bytes())
    with pytest.raises(UnsupportedError, match=r"needs alone_int8_fp16\.onnx beside .*copy it too\.$"):
        choose_file(importlib.import_module("tensorrt"), alone)


def test_tensorrt_8_refuses_the_fp16_emission(monkeypatch, tmp_path: Path, int8: Path):
    simulate(monkeypatch, tmp_path, "8.6.1")
    with pytest.raises(
        UnsupportedError, match=r"opset 19\), which TensorRT 8\.6\.1 does not read: name the file without"
    ):
        choose_file(importlib.import_module("tensorrt"), int8.with_name("tiny_int8_fp16.onnx"))


@pytest.mark.parametrize(
    ("name", "precision", "said"),
    [("tiny.onnx", "int8", "is a float model"), ("tiny_int8.onnx", "fp32", "is an INT8 model; --fp32 wants the float")],
)
def test_a_precision_that_the_file_does_not_have_is_told(trt10, name: str, precision: str, said: str, int8: Path):
    with pytest.raises(InputError, match=said):
        planned(trt10, Recipe("x", str(int8.with_name(name)), precision))


def board(free: int, total: int) -> Board:
    return Board(Identity("10.3.0", "Orin Nano", "8.7", ""), free, total, integrated=True)


@pytest.mark.parametrize(
    ("free", "total", "workspace"),
    [(12 << 30, 16 << 30, 2 << 30), (3 << 30, 8 << 30, 1536 << 20), (50 << 20, 8 << 30, 64 << 20)],
)
def test_the_workspace_is_half_of_what_is_free_within_limits(free: int, total: int, workspace: int):
    options = choose_options(board(free, total))
    assert (options.workspace_bytes, options.low_memory) == (workspace, False)


def test_small_boards_build_carefully():
    options = choose_options(board(3 << 30, 4 << 30))
    assert (options.workspace_bytes, options.low_memory) == (LOW_MEMORY_BYTES, True)
    assert choose_options(board(3 << 30, 4 << 30), workspace_mb=100).workspace_bytes == 100 << 20


def test_low_memory_leaves_cudnn_and_cublas_out(trt, int8: Path):
    seen = []
    original = trt.IBuilderConfig.set_tactic_sources
    trt.IBuilderConfig.set_tactic_sources = lambda self, sources: seen.append(sources) or original(self, sources)
    planned(trt, Recipe("int8", str(int8), "int8"), BuildOptions(64 << 20, low_memory=True))
    kinds = trt.TacticSource
    assert seen == [1 << int(kinds.JIT_CONVOLUTIONS) | 1 << int(kinds.EDGE_MASK_CONVOLUTIONS)]


def test_measured_kernels_are_kept_for_the_next_build(trt, int8: Path, tmp_path: Path):
    cache = tmp_path / "deep" / "x.timing"
    options = BuildOptions(64 << 20, timing_cache=str(cache))
    planned(trt, Recipe("int8", str(int8), "int8"), options)
    assert cache.read_bytes() == trt.__version__.encode() + b" timings"
    cache.write_bytes(trt.__version__.encode() + b" more timings")
    planned(trt, Recipe("int8", str(int8), "int8"), options)
    assert cache.read_bytes().endswith(b" more timings")


def test_a_timing_cache_of_another_version_is_replaced(trt10, int8: Path, tmp_path: Path):
    cache = tmp_path / "x.timing"
    cache.write_bytes(b"8.6.1 timings")
    planned(trt10, Recipe("int8", str(int8), "int8"), BuildOptions(64 << 20, timing_cache=str(cache)))
    assert cache.read_bytes() == b"10.3.0 timings"


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("parse", ArtifactError, r"cannot read .*tiny_int8.*\.onnx: No importer registered for op in opset \d+\.$"),
        (
            "build",
            UnsupportedError,
            r"could not build int8: Could not find any implementation for node fpn",
        ),
        (
            "memory",
            DeviceError,
            r"^no memory to build int8: .*\(out of memory\)\. Close the desktop.* --low-memory\.$",
        ),
    ],
)
def test_what_tensorrt_refuses_is_told_in_one_line(trt, fault: str, kind, said: str, int8: Path, monkeypatch):
    monkeypatch.setenv("SIMULATED_FAULT", fault)
    with pytest.raises(kind, match=said):
        planned(trt, Recipe("int8", str(int8), "int8"))


@pytest.mark.parametrize(
    ("compute_capability", "has"),
    [("5.3", False), ("6.0", False), ("6.1", True), ("6.2", False), ("7.2", True), ("8.7", True), ("11.0", True)],
    ids=["Nano", "P100", "GTX 1080", "TX2", "Xavier", "Orin", "Thor"],
)
def test_the_gpu_s_number_tells_whether_it_has_int8(compute_capability: str, has: bool):
    assert trt_board.has_int8(compute_capability) is has
    if not has:
        with pytest.raises(UnsupportedError, match=r"no INT8 arithmetic \(Jetson Nano, TX1 .* none\): use --fp16"):
            trt_board.check_int8(compute_capability)


def test_the_simulated_builder_wants_the_int8_flag_where_quantisers_are(trt10, int8: Path, monkeypatch):
    """Also where nothing reads them, as in FP16 of a Q/DQ file (NVIDIA/TensorRT#4021); and only there."""
    set_flag = trt10.IBuilderConfig.set_flag
    monkeypatch.setattr(
        trt10.IBuilderConfig, "set_flag", lambda self, flag: None if flag.name == "INT8" else set_flag(self, flag)
    )
    with pytest.raises(UnsupportedError, match="int8 is not configured in the builder"):
        planned(trt10, Recipe("fp16", str(int8), "fp16"))
    planned(trt10, Recipe("fp16", str(int8.with_name("tiny.onnx")), "fp16"))
    monkeypatch.setattr(trt10.IBuilderConfig, "set_flag", lambda self, flag: self._flags.add("INT8"))
    with pytest.raises(UnsupportedError, match="no scaling factors"):
        planned(trt10, Recipe("fp16", str(int8.with_name("tiny.onnx")), "fp16"))


def test_no_tensorrt_is_told_with_where_it_comes_from(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependency, match=r"^edgedet build needs tensorrt, .*JetPack brings it .*system-site"):
        import_tensorrt("edgedet build")


def test_a_tensorrt_before_8_5_is_told(trt10, monkeypatch):
    monkeypatch.delattr(trt10.ICudaEngine, "num_io_tensors")
    monkeypatch.setattr(trt10, "__version__", "8.2.1")
    with pytest.raises(UnsupportedError, match=r"needs TensorRT 8\.5 or newer; this is 8\.2\.1\. JetPack 4 boards"):
        import_tensorrt("edgedet build")
    monkeypatch.setattr(trt10, "__version__", "8.4.1.5")  # JetPack 5.0, whose boards may have 5.1
    with pytest.raises(UnsupportedError, match=r"this is 8\.4\.1\.5\. JetPack 5\.0 has that; install JetPack 5\.1"):
        import_tensorrt("edgedet build")


def test_the_board_s_system_is_part_of_what_an_engine_belongs_to(trt10, monkeypatch):
    machine = replace(read_machine(), jetpack="R36.4.3")
    monkeypatch.setattr(trt_board, "read_machine", lambda: machine)
    identity = trt_board.read_board(trt10, open_cuda()).identity
    assert identity.line() == "TensorRT 10.3.0 on Simulated Orin (compute capability 8.7), Jetson Linux R36.4.3"
    then = {**identity.to_dict(), "system": "R35.4.1"}
    assert identity.changes_since(then) == ["system R35.4.1 -> R36.4.3"]
    assert identity.changes_since({}) == [f"{name} ? -> {value}" for name, value in identity.to_dict().items()]
