"""An export as one Python call: ``edgedet.export_model(weights)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgedet import demo
from edgedet.engines.base import default_threads
from edgedet.errors import require
from edgedet.export.checkpoints.open_weights import DEMO, WeightsChoice, make_stem, open_weights
from edgedet.export.export_onnx import PACKAGES, ExportResult, export_onnx
from edgedet.export.int8.export_int8 import export_int8, read_float_model
from edgedet.export.int8.options import Int8Options
from edgedet.export.interop.target import ModelFiles, check_rules
from edgedet.export.interop.targets import targets_named, write_targets
from edgedet.files import MODELS_FOLDER
from edgedet.postprocess import ORIGINALS
from edgedet.progress import Say, say_nothing


def export_model(
    weights: str | Path | WeightsChoice = DEMO,
    out: str | Path = MODELS_FOLDER,
    name: str | None = None,
    tflite: bool = False,
    int8: Int8Options | None = None,
    targets: Sequence[str] = (),
    original_nms: bool = False,
    top_anchors: int | None = None,
    max_batch: int = 1,
    threads: int | None = None,
    say: Say = say_nothing,
) -> ExportResult:
    """Return what ``edgedet export`` prints: the verified files that were written from a checkpoint.

    weights: a checkpoint's file, "demo", or a WeightsChoice, which also says variant, classes and input size.
    out:     folder to write to; name: of the files without suffix (default: the checkpoint's).
    int8:    how to quantise and judge; None writes no INT8 file.
    targets: other programs to write files for, as of ``--for``.
    top_anchors: as of ``--top-anchors``; None: its default. max_batch: as of ``--batch``.
    say:     takes a line for each step.
    Raises CheckpointError for weights that cannot be used, InputError for an unknown target, VerificationError for a
    file that does not do what the checkpoint does, MissingDependency without the export extra.
    """
    for module in PACKAGES:
        require(module, "edgedet.export_model")
    chosen = targets_named(",".join(targets)) if targets else ()
    choice = weights if isinstance(weights, WeightsChoice) else WeightsChoice(str(weights))
    threads = threads or default_threads()
    checkpoint, path = open_weights(choice, say)
    if chosen and original_nms:
        check_rules(ORIGINALS[checkpoint.spec.family])  # now, not when all else is written
    name = name or (demo.MODEL_NAME if choice.is_demo else make_stem(path))
    with_tflite = tflite or any(target.tflite for target in chosen)
    result = export_onnx(
        checkpoint, Path(out) / f"{name}.onnx", threads, with_tflite, original_nms, top_anchors, max_batch
    )
    if int8 is not None:
        model, meta = read_float_model(Path(result.onnx))
        outcome = export_int8(Path(result.onnx), model, meta, int8, say)
        result = replace(result, int8=outcome.written, refused=outcome.refused)
        if not outcome.written and (error := outcome.error()) is not None:
            raise error
    if chosen:
        calib = None if int8 is None else int8.calib
        result = replace(
            result,
            targets=write_targets(chosen, list_model_files(result, name), Path(out), calib, choice.is_demo, threads),
        )
    return result


def list_model_files(result: ExportResult, name: str) -> ModelFiles:
    """Return the files called ``name`` that an export wrote."""
    int8 = {Path(written.path).name: Path(written.path) for written in result.int8 or ()}
    return ModelFiles(
        name,
        Path(result.onnx),
        None if result.tflite is None else Path(result.tflite.path),
        int8.get(f"{name}_int8.onnx"),
        int8.get(f"{name}_int8.tflite"),
    )
