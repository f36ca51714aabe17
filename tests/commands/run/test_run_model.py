"""Which model `edgedet run` takes where none was named."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from media import write_fake_model
from run_command import run
from small_onnx import write_onnx

from edgedet.errors import MissingDependency
from edgedet.runner import models

pytest.importorskip("cv2", reason="edgedet run reads and writes by OpenCV")


@pytest.fixture
def exports(folder):
    """Three ONNX files in edgedet-out, the newest damaged, and one that is still being written."""
    pytest.importorskip("onnxruntime", reason="exports run on onnxruntime")
    Path("edgedet-out").mkdir()
    now = time.time()
    for age_s, name in ((30, "old.onnx"), (20, "new.onnx")):
        write_onnx(Path("edgedet-out") / name)
        os.utime(Path("edgedet-out") / name, (now - age_s, now - age_s))
    for age_s, name in ((10, "damaged.onnx"), (0, ".new-x7.onnx")):
        (Path("edgedet-out") / name).write_bytes(b"half a file")
        os.utime(Path("edgedet-out") / name, (now - age_s, now - age_s))
    return folder


def test_without_a_model_the_newest_usable_export_runs(exports, capsys):
    assert run("--source", "clip.avi", "--limit", 1, model=None) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("model edgedet-out/new.onnx: ")
    passed_over, without_checksum = captured.err.splitlines()
    assert passed_over.startswith("edgedet: passed over: edgedet-out/damaged.onnx is damaged or no ONNX file (")
    assert without_checksum.startswith("edgedet: edgedet-out/new.onnx has no checksum")


def test_a_named_model_that_is_damaged_is_not_replaced(exports, capsys):
    assert run("--source", "clip.avi", model="edgedet-out/damaged.onnx") == 2
    assert "edgedet-out/damaged.onnx is damaged" in capsys.readouterr().err


def test_exports_that_are_all_damaged_are_not_replaced_by_the_demo(exports, capsys):
    for name in ("old.onnx", "new.onnx"):
        (Path("edgedet-out") / name).unlink()
    assert run("--source", "clip.avi", model=None) == 2
    assert "no model in edgedet-out/ can be used" in capsys.readouterr().err.splitlines()[-1]


def test_without_any_export_and_without_litert_the_demo_is_exported(folder, capsys, monkeypatch):
    monkeypatch.setattr(models, "int8_model", lambda: None)
    host = pytest.importorskip("edgedet.export.export_onnx", reason="the demo is exported by host code")
    monkeypatch.setattr(host, "export_demo", lambda out: write_fake_model(out / "demo.fake"))
    assert run("--source", "clip.avi", "--limit", 1, model=None) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("model edgedet-out/demo.fake: ")
    assert "exporting the demo model" in captured.err


def test_without_the_export_packages_one_line_tells_how(folder, capsys, monkeypatch):
    monkeypatch.setattr(models, "int8_model", lambda: None)
    host = pytest.importorskip("edgedet.export.export_onnx", reason="the demo is exported by host code")

    def needs_torch(out):
        raise MissingDependency("exporting the demo model needs torch, which is not installed: pip install X")

    monkeypatch.setattr(host, "export_demo", needs_torch)
    assert run("--source", "clip.avi", model=None) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "edgedet: no model was named and edgedet-out/ holds none: "
        "pip install 'edgedet[tflite]' runs the bundled one. Otherwise "
        "exporting the demo model needs torch, which is not installed: pip install X"
    )
