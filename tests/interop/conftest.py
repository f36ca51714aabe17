"""Files of the demo's model at a small size, written once, that targets are made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from many_processes import make_once

pytest.importorskip("torch", reason="needs the export extra")

from edgedet import demo
from edgedet.engines.base import read_meta
from edgedet.export.checkpoints.checkpoint import load_checkpoint
from edgedet.export.export_onnx import export_onnx
from edgedet.export.interop.target import ModelFiles, Request
from edgedet.export.onnx_file import read_graph, write_onnx
from edgedet.preprocess import Preprocessor
from edgedet.specs import resized
from edgedet.types import ModelInput

INPUT_HW = (256, 384)


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """The demo's float files at INPUT_HW, and the bundled INT8 file, which has its own size."""

    def export(folder: Path) -> None:
        checkpoint = load_checkpoint(demo.WEIGHTS)
        checkpoint = replace(checkpoint, spec=resized(checkpoint.spec, INPUT_HW))
        export_onnx(checkpoint, folder / "street.onnx", threads=1, tflite=True)

    path = make_once(tmp_path_factory, "demo-256x384", export) / "street.onnx"
    return ModelFiles("street", path, path.with_suffix(".tflite"))


@pytest.fixture(scope="session")
def batched_files(model_files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """The float file as ``export --batch 4`` writes it."""
    model, meta = read_graph(model_files.onnx)
    path = tmp_path_factory.mktemp("batched") / "street.onnx"
    write_onnx(model, replace(meta, max_batch=4), path)
    return ModelFiles("street", path)


@pytest.fixture
def request_for_batch(request_for_files: Request, batched_files: ModelFiles) -> Request:
    """As ``request_for_files``, of a model that takes up to 4 pictures at once."""
    return replace(request_for_files, files=batched_files, meta=read_meta(batched_files.onnx))


@pytest.fixture
def request_for_files(model_files: ModelFiles, tmp_path: Path) -> Request:
    """What a target is asked, with three frames of the demo's clip."""
    meta = read_meta(model_files.onnx)
    preprocess = Preprocessor(meta.spec)
    frames = []
    for bgr in demo.clip_frames(3):
        frame = preprocess(bgr)
        frames.append(ModelInput(np.array(frame.pixels), frame.scale_to_source, frame.source_hw))
    return Request(model_files, meta, tmp_path / "target", frames, threads=1)
