"""Checkpoint -> float ONNX file, and the same as TFLite: written, then compared with the network that it is from."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedet import __version__, demo
from edgedet.artifact import ArtifactMeta
from edgedet.errors import require
from edgedet.files import atomic_path, sha256_of
from edgedet.postprocess import DEFAULT_RULES, ORIGINALS

if TYPE_CHECKING:
    from edgedet.board.build import BuildReport
    from edgedet.export.checkpoints.checkpoint import Checkpoint
    from edgedet.export.int8.export_int8 import Int8Result, Refused
    from edgedet.export.interop.targets import TargetResult

PACKAGES = ("torch", "onnx", "onnxruntime", "cv2", "safetensors")  # that an export imports


@dataclass(frozen=True)
class TfliteResult:
    """The TFLite file beside the ONNX file."""

    path: str
    bytes: int
    sha256: str
    max_relative_difference: float


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote, as ``--json`` prints it; ``top_anchors`` and ``max_batch`` as in ArtifactMeta."""

    model: str
    onnx: str
    bytes: int
    sha256: str
    nodes: int
    top_anchors: int
    max_batch: int
    input_hw: tuple[int, int]
    classes: int
    max_relative_difference: float
    frames: int
    tflite: TfliteResult | None = None
    int8: list[Int8Result] | None = None
    refused: list[Refused] | None = None
    engine: BuildReport | None = None
    targets: list[TargetResult] | None = None


def export_onnx(
    checkpoint: Checkpoint,
    path: Path,
    threads: int,
    tflite: bool = False,
    original_nms: bool = False,
    top_anchors: int | None = None,
    max_batch: int = 1,
) -> ExportResult:
    """Write the fused float ONNX file, and with ``tflite`` the same as .tflite beside it; verify both.

    original_nms: let the file say that its outputs become boxes as the checkpoint's own code base does it.
    top_anchors:  how many anchors the ONNX file's outputs are of, 0: of all (default: MOST_TOP_ANCHORS).
    max_batch:    how many pictures the ONNX file takes at once.
    Nothing is left at the path of a file that fails.

    Raises InputError for a number of anchors or pictures that cannot be, VerificationError where the file does not do
    what the network does.
    """
    import onnx
    import torch

    from edgedet.export.checkpoints.checkpoint import network_from_checkpoint
    from edgedet.export.fusion.fuse import graph_from_network
    from edgedet.export.fusion.open_batch import check_batch
    from edgedet.export.fusion.top_anchors import MOST_TOP_ANCHORS, check_top_anchors
    from edgedet.export.onnx_file import write_onnx
    from edgedet.export.verify import FRAMES, verify

    top_anchors = MOST_TOP_ANCHORS if top_anchors is None else top_anchors
    check_top_anchors(top_anchors)
    check_batch(max_batch, checkpoint.spec)
    torch.set_num_threads(threads)
    network = network_from_checkpoint(checkpoint)
    versions = {"edgedet": __version__, "torch": torch.__version__, "onnx": onnx.__version__}
    nms = ORIGINALS[checkpoint.spec.family] if original_nms else DEFAULT_RULES
    meta = ArtifactMeta(checkpoint.spec, checkpoint.class_names, "fp32", checkpoint.sha256, nms=nms, versions=versions)
    meta = replace(meta.with_top_anchors(top_anchors), max_batch=max_batch)
    frames = demo.clip_frames(FRAMES)
    with atomic_path(path) as temporary:
        model = graph_from_network(network, meta)
        write_onnx(model, meta, temporary)
        verification = verify(temporary, network, frames, threads)
        report: dict[str, Any] = {"verify": {**asdict(verification), "reference": "network in PyTorch"}}
        write_onnx(model, replace(meta, report=report), temporary)
    written = _export_tflite(model, meta, network, frames, path.with_suffix(".tflite"), threads) if tflite else None
    return ExportResult(
        model=checkpoint.spec.name,
        onnx=str(path),
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        nodes=len(model.graph.node),
        top_anchors=meta.top_anchors,
        max_batch=max_batch,
        input_hw=checkpoint.spec.input_hw,
        classes=checkpoint.spec.num_classes,
        max_relative_difference=verification.worst,
        frames=verification.frames,
        tflite=written,
    )


def _export_tflite(
    model: Any, meta: ArtifactMeta, network: Any, frames: list[Any], path: Path, threads: int
) -> TfliteResult:
    from edgedet.export.tflite.writer import write_tflite
    from edgedet.export.verify import verify

    with atomic_path(path) as temporary:
        write_tflite(model, meta, temporary)
        verification = verify(temporary, network, frames, threads)
        report: dict[str, Any] = {"verify": {**asdict(verification), "reference": "network in PyTorch"}}
        write_tflite(model, replace(meta, report=report), temporary)
    return TfliteResult(str(path), path.stat().st_size, sha256_of(path), verification.worst)


def export_demo(out: Path) -> Path:
    """Export the bundled model to ``out`` and return the file's path."""
    for module in PACKAGES:
        require(module, "exporting the demo model")
    from edgedet.export.checkpoints.checkpoint import load_checkpoint

    path = out / f"{demo.MODEL_NAME}.onnx"
    export_onnx(load_checkpoint(demo.WEIGHTS), path, os.cpu_count() or 1)
    return path
