"""The INT8 demo model inside the package is whole, of the bundled weights, accurate, and runs without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgedet import demo
from edgedet.engines.tflite_file import read_trailer
from edgedet.judge.gate.verdict import MIN_KEPT

ROOT = Path(__file__).resolve().parents[2]
LARGEST_BYTES = 5_500_000
# In a process of its own that has what a board has: no PyTorch, no ONNX, no onnxruntime.
ON_A_BOARD = """
import sys
for name in ("torch", "onnx", "onnxruntime", "safetensors"):
    sys.modules[name] = None
from edgedet.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_bundled_file_is_whole_and_of_the_bundled_weights() -> None:
    """Its flatbuffer has the checksum that its metadata names, and it was made from the weights beside it."""
    meta, flatbuffer = read_trailer(demo.INT8)
    assert demo.INT8.stat().st_size < LARGEST_BYTES
    assert len(flatbuffer) < demo.INT8.stat().st_size
    assert meta.precision == "int8"
    assert meta.class_names == ("person",)
    assert meta.spec.input_hw == (512, 512)
    checkpoint = pytest.importorskip(
        "edgedet.export.checkpoints.checkpoint", reason="reading weights needs the export extra"
    )
    pytest.importorskip("safetensors", reason="reading weights needs the export extra")
    loaded = checkpoint.load_checkpoint(demo.WEIGHTS)
    assert meta.source_sha256 == loaded.sha256
    assert meta.spec == loaded.spec


def test_the_bundled_file_passed_the_accuracy_gate() -> None:
    """If not: make demo-int8."""
    gate = read_trailer(demo.INT8)[0].report["gate"]
    assert gate["verdict"] == "PASSED"
    assert gate["value"] >= gate["required"] >= MIN_KEPT
    assert gate["boxes"] >= 50


def test_without_pytorch_run_uses_it_and_finds_the_people(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")
    pytest.importorskip("cv2", reason="needs the pc extra")
    options = ["--source", str(demo.CLIP), "--limit", "3", "--threads", "1"]
    command = [sys.executable, "-c", ON_A_BOARD, "run", *options, "--jsonl", "found.jsonl", "--json", "figures.json"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["model"] == str(demo.INT8)
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    assert all(line["detections"] for line in lines)
    assert not (tmp_path / "edgedet-out").exists()


@pytest.mark.slow  # 12 s: a whole D0
def test_it_finds_what_the_float_network_finds(tmp_path: Path) -> None:
    """Three frames of the clip: the surest boxes of the float file are there, IoU 0.5 and more."""
    pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")
    pytest.importorskip("cv2", reason="needs the pc extra")
    exporter = pytest.importorskip("edgedet.export.export_onnx", reason="needs the export extra")
    for module in ("torch", "onnx", "onnxruntime", "safetensors"):
        pytest.importorskip(module, reason="needs the export extra")
    from edgedet import Detector

    real = Detector(exporter.export_demo(tmp_path), threads=1, score=0.6)
    int8 = Detector(demo.INT8, threads=1, score=0.3)
    for bgr in demo.clip_frames(3):
        wanted, found = real(bgr).boxes_xyxy, int8(bgr).boxes_xyxy
        assert len(wanted)
        low = np.maximum(wanted[:, None, :2], found[None, :, :2])
        high = np.minimum(wanted[:, None, 2:], found[None, :, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=2)
        areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (wanted, found)]
        overlap = shared / (areas[0][:, None] + areas[1][None] - shared)
        assert overlap.max(axis=1).min() > 0.5


def test_without_a_tflite_package_there_is_no_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", None)
    assert demo.int8_model() is None


def test_a_missing_file_is_no_bundled_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "INT8", tmp_path / "none.tflite")
    assert demo.int8_model() is None
