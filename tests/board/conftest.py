"""Tiny models on a machine where TensorRT is SIMULATED."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from trt_models import simulate, write_models

V = "10.3.0"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models")).parent


@pytest.fixture
def int8(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tiny_int8.onnx with its sisters in a folder of its own, on a machine of V."""
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    simulate(monkeypatch, tmp_path, V)
    return folder / "tiny_int8.onnx"
