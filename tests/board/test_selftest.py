"""`edgedet selftest` on SIMULATED TensorRT: each step runs or says why not; the result names no machine."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest
import trt_api
from trt_api import GUARDED, USED
from trt_models import simulate, write_models

from edgedet.board import selftest as selftest_steps
from edgedet.cli import main
from edgedet.engines.tensorrt.members import MEMBERS

STEPS = ["system", "members", "build", "load", "memory", "graph", "rebuild", "bench"]


@pytest.fixture
def int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    simulate(monkeypatch, tmp_path, "10.3.0")
    monkeypatch.setattr(selftest_steps, "FRAMES", 16)
    return write_models(tmp_path / "models")


def result(int8: Path, code: int) -> dict[str, dict]:
    out = int8.with_name("result.json")
    assert main(["selftest", str(int8), "--seconds", "0", "--json", str(out)]) == code
    found = json.loads(out.read_text())
    assert found["selftest"] == "board"
    return {step["name"]: step for step in found["steps"]}


@pytest.mark.parametrize(
    "version", [trt_api.versions()[0], pytest.param(trt_api.versions()[-1], marks=pytest.mark.slow)]
)
def test_every_step_passes(version: str, int8: Path, monkeypatch, tmp_path: Path, capsys):
    simulate(monkeypatch, tmp_path, version)
    steps = result(int8, 0)
    assert list(steps) == STEPS
    assert all(step["ok"] for step in steps.values())
    assert steps["members"]["figures"] == {"tensorrt": version, "asked": len(MEMBERS), "missing": []}
    assert [trial["kept"] for trial in steps["build"]["figures"]["trials"]].count(True) == 1
    assert set(steps["memory"]["figures"]["p50_ms"]) == {"true", "false"}
    assert steps["rebuild"]["figures"]["because"] == [f"tensorrt 0.0 -> {version}"]
    assert steps["bench"]["figures"]["frames"] == 16
    assert set(steps["bench"]["figures"]["ms"]) == {"preprocess", "network", "postprocess", "end to end"}
    assert "ok   build     recipes build, and one finds what the ONNX file finds" in capsys.readouterr().out
    assert sorted(path.suffix for path in int8.parent.iterdir()) == [".json", ".onnx", ".onnx", ".onnx"]
    text = json.dumps(steps)  # can be sent: no path, no user, no host
    assert not any(word in text for word in (str(int8.parent), f"{Path.home()}{os.sep}", os.uname().nodename))


def test_steps_that_fail_are_told_and_the_others_run(int8: Path, monkeypatch, capsys):
    """A member that is not there, and work that CUDA cannot record."""
    monkeypatch.delattr(importlib.import_module("tensorrt").ITimingCache, "serialize")
    monkeypatch.setenv("SIMULATED_FAULT", "graph")
    steps = result(int8, 1)
    assert steps["members"]["figures"]["missing"] == ["ITimingCache.serialize"]
    assert {name: step["reason"] for name, step in steps.items() if not step["ok"]} == {
        "members": "TensorRT 10.3.0 has no ITimingCache.serialize",
        "graph": "nothing could be recorded",
    }
    assert "FAIL members" in (said := capsys.readouterr()).out
    assert said.err.splitlines()[-1] == "edgedet: 2 of 8 steps failed: members, graph."


def test_a_build_that_fails_is_told_with_its_reason(int8: Path, monkeypatch):
    monkeypatch.setenv("SIMULATED_FAULT", "build")
    steps = result(int8, 1)
    assert steps["build"]["reason"].startswith("TensorRT could not build int8: Could not find any implementation")
    assert not steps["load"]["ok"]
    assert steps["system"]["ok"]


def test_the_members_step_asks_for_all_that_the_code_uses():
    """And for nothing that some version lacks: that would fail on a board where all is well."""
    assert {member for member in USED if "." in member} - set(GUARDED) <= set(MEMBERS)
    surfaces = [trt_api.members(version) for version in trt_api.versions()]
    for member in MEMBERS:
        kind, _, name = member.partition(".")
        assert all(name in surface[kind] for surface in surfaces)


def test_bad_input_is_told_in_one_line(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command, said in (
        ([], "no model was named and edgedet-out/ holds no *_int8.onnx: run `edgedet export"),
        (["x.onnx"], "cannot read x.onnx"),
        (["--seconds", "-1"], "--seconds wants a number from 0 up; got -1.0."),
    ):
        assert main(["selftest", *command]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert list(tmp_path.iterdir()) == []
