"""ONNX graph and metadata -> file with a checksum at its end, as ``edgedet.engines.onnx_file`` reads it; and back."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from edgedet.artifact import META_KEY, ArtifactMeta
from edgedet.engines.onnx_file import with_checksum
from edgedet.errors import InputError
from edgedet.export.fusion.open_batch import close_batch, has_open_batch, open_batch
from edgedet.export.fusion.top_anchors import keep_all_anchors, keep_top_anchors


def finish_graph(model: onnx.ModelProto, meta: ArtifactMeta) -> onnx.ModelProto:
    """Return the graph with the outputs and the batch that ``meta`` says; one that has them is returned as it is."""
    model = keep_top_anchors(model, meta.top_anchors)
    return open_batch(model) if meta.max_batch > 1 and not has_open_batch(model) else model


def write_onnx(model: onnx.ModelProto, meta: ArtifactMeta, path: Path) -> None:
    """Write a graph with its metadata to ``path``; other metadata entries are left out.

    model: takes one picture and ends in the rows of all anchors; the file does what ``meta.top_anchors`` and
           ``meta.max_batch`` say.
    """
    model = finish_graph(model, meta)
    helper.set_model_props(model, {META_KEY: meta.to_json()})
    path.write_bytes(with_checksum(model.SerializeToString()))


def read_graph(path: Path) -> tuple[onnx.ModelProto, ArtifactMeta]:
    """Return the graph of a file that edgedet wrote, of one picture and all anchors, and the file's metadata.

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
    return keep_all_anchors(close_batch(model)), ArtifactMeta.from_json(text)
