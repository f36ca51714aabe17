"""`edgedet build`: which engine is kept and what is said, on SIMULATED TensorRT (its times are made up here)."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import trt_api
from trt_models import DEPTHWISE, STEM, left, save_changed, simulate, write_models

from edgedet.board import tune as build_tune
from edgedet.board.recipes import recipes
from edgedet.board.selftest import _steps
from edgedet.cli import COMMANDS, main
from edgedet.commands import export as export_command
from edgedet.engines.base import open_engine, rebuild_model
from edgedet.engines.onnx_file import read_onnx
from edgedet.engines.tensorrt.engine_file import read_engine

RECIPES = ["int8", "int8, dense", "int8, fpn and heads fp16", "fp16"]


@pytest.fixture
def times_ms(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Milliseconds that the engines seem to take, in the order in which they are built."""
    times = [3.0, 2.0, 5.0, 4.0]
    monkeypatch.setattr(build_tune, "measure", lambda engine, frames: [times.pop(0)] * 3)
    return times


def figures(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "version", [trt_api.versions()[-1], pytest.param(trt_api.versions()[0], marks=pytest.mark.slow)]
)
def test_every_recipe_is_tried_and_the_fastest_kept(version, int8: Path, times_ms, capsys, monkeypatch, tmp_path: Path):
    simulate(monkeypatch, tmp_path, version)
    out = tmp_path / "build.json"
    assert main(["build", str(int8), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [trial["recipe"] for trial in found["trials"]] == RECIPES
    assert {trial["verdict"] for trial in found["trials"]} == {"PASSED"}
    assert all(trial["f1"] >= 0.97 and trial["boxes"] >= 100 for trial in found["trials"])
    assert [trial["recipe"] for trial in found["trials"] if trial["kept"]] == ["int8, dense"]
    assert found["board"]["tensorrt"] == version
    assert left(int8) == ["tiny_int8.engine"]
    meta = read_engine(int8.with_suffix(".engine"))[0]
    assert meta.report["engine"]["recipe"]["dense"] is True
    assert meta.report["engine"]["trials"] == found["trials"]
    open_engine(int8.with_suffix(".engine"), 1)[1].close()
    out = capsys.readouterr().out
    assert f"TensorRT {version} on Simulated Orin (compute capability 8.7), workspace " in out
    assert "judged against tiny.onnx on 16 frames" in out
    assert "\nrecipe                       p50 ms  AP kept  verdict\nint8                           3.00   " in out
    assert f"wrote {int8.with_suffix('.engine')}: int8, dense" in out


def test_a_faster_engine_that_finds_other_boxes_is_not_kept(int8: Path, times_ms, capsys, monkeypatch):
    """The INT8 file's class logits are turned round; FP16 comes from the float file."""
    model = onnx.load(int8)
    output = next(node for node in model.graph.node if "class_logits" in node.output)
    output.output[0] = "logits"
    model.graph.node.append(onnx.helper.make_node("Neg", ["logits"], ["class_logits"], "turned"))
    save_changed(model, int8)
    assert main(["build", str(int8), "--json"]) == 0
    trials = figures(capsys)["trials"]
    verdicts = {trial["recipe"]: trial["verdict"] for trial in trials}
    assert verdicts == {**dict.fromkeys(RECIPES[:3], "FAILED"), "fp16": "PASSED"}


def test_where_nothing_passes_the_old_engine_stays(int8: Path, capsys, monkeypatch):
    engine = int8.with_suffix(".engine")
    engine.write_bytes(b"old")
    monkeypatch.setattr("edgedet.judge.gate.verdict.MIN_KEPT", 1.1)
    assert main(["build", str(int8), "--no-tune"]) == 3
    assert "edgedet: no engine was kept. int8: FAILED, keeps " in capsys.readouterr().err
    assert engine.read_bytes() == b"old"
    assert left(int8) == ["tiny_int8.engine"]


def test_a_recipe_that_cannot_be_built_leaves_the_others(int8: Path, capsys, times_ms):
    """As with files of before, whose depthwise convolutions are all float."""
    model = onnx.load(int8)
    for node in model.graph.node:
        node.name = node.name.replace(".conv_dw", ".conv_xx") if node.op_type == "Conv" else node.name
    save_changed(model, int8)
    assert main(["build", str(int8), "--json"]) == 0
    trials = figures(capsys)["trials"]
    assert [trial["verdict"] for trial in trials] == ["PASSED", "NOT BUILT", "PASSED", "PASSED"]
    assert trials[1]["reason"].startswith("tiny_int8.onnx has no pair of INT8 convolutions that could become one")


def test_a_recipe_whose_files_do_not_fit_leaves_the_others(int8: Path, times_ms, capsys, monkeypatch, tmp_path: Path):
    """The table is another checkpoint's, and NAME.onnx, for FP16, is one that TensorRT 8 does not parse."""
    write_models(int8.parent, keep_float=(STEM, DEPTHWISE))
    table = int8.with_name("tiny_int8.table.json")
    table.write_text(table.read_text().replace("5" * 64, "6" * 64))
    model = onnx.load(int8.with_name("tiny.onnx"))
    model.opset_import[0].version = 18  # onnxruntime reads it
    save_changed(model, int8.with_name("tiny.onnx"))
    simulate(monkeypatch, tmp_path, "8.6.1")
    assert main(["build", str(int8), "--json"]) == 0
    trials = {trial["recipe"]: trial for trial in figures(capsys)["trials"]}
    assert {name: trial["verdict"] for name, trial in trials.items()} == {
        "int8, all": "NOT BUILT",
        "int8, all, dense": "NOT BUILT",
        "int8": "PASSED",
        "int8, dense": "PASSED",
        "int8, fpn and heads fp16": "PASSED",
        "fp16": "NOT BUILT",
    }
    assert "is of another checkpoint than the model" in trials["int8, all"]["reason"]
    assert "TensorRT 8.6.1 cannot read" in trials["fp16"]["reason"]


@pytest.mark.parametrize("model", ["tiny_int8.onnx", "tiny.onnx"])
def test_the_parent_makes_no_builder(model: str, int8: Path, monkeypatch):
    """On a Jetson one holds more than a gigabyte; the build's own is in the child."""

    def refuse(log):
        raise AssertionError("a Builder in the parent")

    monkeypatch.setattr(importlib.import_module("tensorrt"), "Builder", refuse)
    assert main(["build", str(int8.with_name(model)), "--no-tune"]) == 0


def test_fp16_of_an_int8_file_without_its_float_file(int8: Path):
    """Its quantisers are left, read by nobody: the simulation, as TensorRT, wants the INT8 flag then."""
    int8.with_name("tiny.onnx").unlink()
    assert main(["build", str(int8), "--fp16"]) == 0


def test_with_the_calibration_table_what_is_float_is_tried_in_int8(int8: Path, times_ms, monkeypatch, tmp_path, capsys):
    """As beside a file of `edgedet export`; the engine is built again by the same recipe on another TensorRT."""
    write_models(int8.parent, keep_float=(STEM, DEPTHWISE))
    times_ms[:] = [2.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    assert main(["build", str(int8), "--json"]) == 0
    trials = figures(capsys)["trials"]
    assert [trial["recipe"] for trial in trials] == ["int8, all", "int8, all, dense", *RECIPES]
    assert {trial["verdict"] for trial in trials} == {"PASSED"}
    assert [trial["recipe"] for trial in trials if trial["kept"]] == ["int8, all, dense"]
    engine = int8.with_suffix(".engine")
    assert read_engine(engine)[0].report["engine"]["recipe"]["ranges"] == "tiny_int8.table.json"
    simulate(monkeypatch, tmp_path, "11.4.0.106")
    rebuild_model(engine)
    assert read_engine(engine)[0].report["engine"]["recipe"]["name"] == "int8, all, dense"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("int8", "edgedet: this GPU has no INT8 arithmetic (Jetson Nano, TX1 and TX2 have none): use --fp16."),
        ("build", "edgedet: TensorRT could not build int8: Could not find any implementation for node fpn.cell.0."),
        ("memory", "edgedet: no memory to build int8: [defaultAllocator.cpp] Cuda Runtime (out of memory). Close the"),
        ("gpu", "edgedet: no GPU can be used: cuDeviceGet failed: no CUDA-capable device is detected."),
        ("load", "edgedet: TensorRT 10.3.0 cannot load it (Version tag does not match."),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(fault: str, said: str, int8: Path, capsys, monkeypatch):
    monkeypatch.setenv("SIMULATED_FAULT", fault)
    assert main(["build", str(int8), "--no-tune"]) == (4 if fault == "gpu" else 2)
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)
    assert left(int8) == []


def test_a_gpu_without_int8_builds_fp16(int8: Path, capsys, monkeypatch):
    monkeypatch.setenv("SIMULATED_FAULT", "int8")
    assert main(["build", str(int8), "--fp16"]) == 0
    assert read_engine(int8.with_suffix(".engine"))[0].precision == "fp16"


@pytest.mark.parametrize(("option", "precision"), [([], "fp16"), (["--fp32"], "fp32")])
def test_a_float_file_becomes_fp16_or_fp32(option: list[str], precision: str, int8: Path, capsys):
    assert main(["build", str(int8.with_name("tiny.onnx")), *option, "--json"]) == 0
    (trial,) = figures(capsys)["trials"]
    assert (trial["recipe"], trial["f1"]) == (precision, 1.0)
    assert left(int8) == ["tiny.engine"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["nowhere.onnx"], "cannot read nowhere.onnx: No such file or directory."),
        (["MODEL", "-o", "x.onnx"], "an engine's name ends in .engine: wanted -o NAME.engine, got x.onnx."),
        (["MODEL", "--workspace", "0"], "--workspace wants megabytes from 1 up; got 0."),
        (["MODEL", "--score", "2"], "2"),
    ],
)
def test_bad_input_is_told_in_one_line(command: list[str], said: str, int8: Path, capsys):
    assert main(["build", *(str(int8) if word == "MODEL" else word for word in command)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_without_tensorrt_one_line_says_where_it_comes_from(models: Path, tmp_path: Path):
    code = "import sys; sys.modules['tensorrt'] = None; from edgedet.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "build", str(models / "tiny_int8.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("edgedet: edgedet build needs tensorrt, which is not installed: JetPack brings it")
    assert len(done.stderr.splitlines()) == 1


def test_fp16_is_built_from_the_float_file_of_the_same_checkpoint_only(int8: Path):
    assert recipes(read_onnx(int8), "fp16", True)[0].onnx == str(int8.with_name("tiny.onnx"))
    model = onnx.load(int8.with_name("tiny.onnx"))
    model.metadata_props[0].value = model.metadata_props[0].value.replace("5" * 64, "6" * 64)
    save_changed(model, int8.with_name("tiny.onnx"))
    assert recipes(read_onnx(int8), "fp16", True)[0].onnx == str(int8)


@pytest.mark.parametrize("int8_too", [True, False])
def test_export_builds_an_engine_where_tensorrt_is(int8_too: bool, int8: Path, capsys):
    float_path = int8.with_name("tiny.onnx")
    written = [SimpleNamespace(path=str(int8)), SimpleNamespace(path=str(int8.with_suffix(".tflite")))]
    result = SimpleNamespace(onnx=str(float_path), int8=written if int8_too else None)
    found = export_command._build_engine(result, None, 0.4, sys.stdout)
    assert found is not None
    assert found.engine == str((int8 if int8_too else float_path).with_suffix(".engine"))
    assert left(int8) == [Path(found.engine).name]


def test_export_without_tensorrt_writes_its_files_and_ends_as_partly_failed(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    words = ["export", "--weights", "demo", "--size", "128", "--threads", "1", "--target", "tensorrt"]
    assert main([*words, "--out", str(tmp_path), "--json"]) == 1
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert Path(figures["onnx"]).is_file()
    assert figures["engine"] is None
    last = captured.err.splitlines()[-1]
    assert last.startswith(
        f"edgedet: no engine was built, because TensorRT is not on this machine: copy {tmp_path}/*.onnx to the board"
    )
    assert last.endswith("and run `edgedet build efficientdet_d0_street.onnx` there.")


def test_the_commands_of_the_jetson_page_are_taken():
    """They are parsed, not run: they need a board."""
    page = (Path(__file__).resolve().parents[2] / "docs/jetson.md").read_text(encoding="utf-8")
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)).splitlines()
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("edgedet ")]
    assert {command[0] for command in commands} == {"doctor", "export", "build", "run", "bench", "selftest"}
    for name, *words in commands:
        module = importlib.import_module(COMMANDS[name][0])
        parser = argparse.ArgumentParser(exit_on_error=False)
        module.add_arguments(parser)
        parser.parse_args(words)
    steps = set(re.findall(r"^\| (?:[^`|]+ \| )?`(\w+)`", page, re.MULTILINE))
    assert steps == {name for name, *_ in _steps(Path(), Path(), 0.0)}


def test_the_simulation_is_in_use(int8: Path):
    """Else these tests would say something of TensorRT."""
    assert importlib.import_module("tensorrt").Builder.__module__ == "simulated_tensorrt"
    assert importlib.import_module("simulated_tensorrt").__doc__.startswith("A SIMULATION")
