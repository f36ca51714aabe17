"""ONNX graph and metadata -> file with a checksum at its end, as ``edgedet.engines.onnx_file`` reads it."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

from edgedet.artifact import META_KEY, ArtifactMeta
from edgedet.engines.onnx_file import with_checksum


def write_onnx(model: onnx.ModelProto, meta: ArtifactMeta, path: Path) -> None:
    """Write a graph with its metadata to ``path``; other metadata entries of ``model`` are replaced."""
    helper.set_model_props(model, {META_KEY: meta.to_json()})
    path.write_bytes(with_checksum(model.SerializeToString()))
