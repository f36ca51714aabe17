"""ONNX graph and metadata -> file with a checksum at its end, as ``edgedet.engines.onnx_file`` reads it; and back."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from edgedet.artifact import META_KEY, ArtifactMeta
from edgedet.engines.onnx_file import with_checksum
from edgedet.errors import InputError
from edgedet.export.fusion.top_anchors import keep_all_anchors, keep_top_anchors


def write_onnx(model: onnx.ModelProto, meta: ArtifactMeta, path: Path) -> None:
    """Write a graph with its metadata to ``path``; other metadata entries are left out.

    model: ends in the rows of all anchors; the file ends in those of ``meta.top_anchors``.
    """
    model = keep_top_anchors(model, meta.top_anchors)
    helper.set_model_props(model, {META_KEY: meta.to_json()})
    path.write_bytes(with_checksum(model.SerializeToString()))


def read_graph(path: Path) -> tuple[onnx.ModelProto, ArtifactMeta]:
    """Return the graph of a file that edgedet wrote, ending in the rows of all anchors, and the file's metadata.

    Raises InputError for a file that cannot be read or that edgedet did not write, ArtifactError for metadata that is
    damaged.
    """
    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise InputError(f"{path} cannot be read as ONNX ({error}): wanted a file of edgedet export.") from None
    text = {item.key: item.value for item in model.metadata_props}.get(META_KEY)
    if text is None:
        raise InputError(f"{path} was not written by edgedet export: export the checkpoint with it.")
    return keep_all_anchors(model), ArtifactMeta.from_json(text)
