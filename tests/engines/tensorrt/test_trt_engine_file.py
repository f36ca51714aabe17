"""The file of an engine of a SIMULATED TensorRT: what it says, and that it is built again for another machine."""

from __future__ import annotations

import json
import shutil
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import simulated_cuda
from trt_built import NAMES, V
from trt_models import simulate

from edgedet import demo
from edgedet.cli import main
from edgedet.engines.base import open_engine, rebuild_model
from edgedet.engines.tensorrt.engine_file import add_to_report, read_engine
from edgedet.errors import (
    ArtifactError,
    DeviceError,
    OutdatedError,
    UnsupportedError,
)

pytestmark = pytest.mark.usefixtures("nothing_is_freed_without_a_context")


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
