"""Write, read and rebuild .engine files: TensorRT's plan, with edgedet's metadata behind it.

The plan alone says nothing about its model, and it loads only under the TensorRT and on the GPU that built it. The
metadata names both, and how the engine was built.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

from ... import __version__
from ...artifact import ArtifactMeta
from ...errors import ArtifactError, OutdatedError
from ...files import atomic_path
from ..onnx_file import read_onnx
from ..tflite_file import split_trailer, with_trailer
from .board import Board, check_int8
from .build import BuildOptions, Recipe, choose_file, choose_options
from .build_process import BuildResult, build

REPORT = "engine"  # entry of ArtifactMeta.report; its keys are below
BUILT_ON, ONNX, RECIPE = "built_on", "onnx", "recipe"


def read_engine(path: Path) -> Tuple[ArtifactMeta, bytes]:
    """Return metadata and plan; raises ArtifactError where the file is damaged or not edgedet's."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}.") from None
    try:
        meta, plan = split_trailer(path, data)
        report = meta.report[REPORT]
        if not all(isinstance(report[key], dict) for key in (BUILT_ON, ONNX, RECIPE)):
            raise TypeError(REPORT)
    except (KeyError, TypeError):
        raise ArtifactError(f"{path} was not built by `edgedet build`: build it from its ONNX file.") from None
    return meta, plan


def build_engine(
    trt: Any, board: Board, recipe: Recipe, options: BuildOptions, path: Path, report: Dict[str, Any]
) -> Tuple[ArtifactMeta, BuildResult]:
    """Build in a child process, and write the whole file or none.

    report: further entries of the engine's report.
    Raises the errors of ``build``.
    """
    onnx = choose_file(trt, Path(recipe.onnx))
    if recipe.precision == "int8":
        check_int8(board.identity.compute_capability)
    with atomic_path(path) as temporary:
        result = build(recipe, options, temporary)
        meta = replace(
            onnx.meta,
            precision=recipe.precision,
            versions={**onnx.meta.versions, "edgedet": __version__, "tensorrt": board.identity.tensorrt},
            report={
                **onnx.meta.report,
                REPORT: {
                    BUILT_ON: board.identity.to_dict(),
                    ONNX: {"name": Path(recipe.onnx).name, "built_from": onnx.path.name, "sha256": onnx.sha256},
                    RECIPE: {**asdict(recipe), "onnx": Path(recipe.onnx).name, "ranges": Path(recipe.ranges).name},
                    "build": asdict(result),
                    **report,
                },
            },
        )
        temporary.write_bytes(with_trailer(temporary.read_bytes(), meta))
    return meta, result


def add_to_report(path: Path, meta: ArtifactMeta, plan: bytes, report: Dict[str, Any]) -> ArtifactMeta:
    """Add entries to the engine's report in its file."""
    meta = replace(meta, report={**meta.report, REPORT: {**meta.report[REPORT], **report}})
    with atomic_path(path) as temporary:
        temporary.write_bytes(with_trailer(plan, meta))
    return meta


def read_own_engine(board: Board, path: Path) -> Tuple[ArtifactMeta, bytes]:
    """Return metadata and plan of an engine that was built on this board.

    Raises OutdatedError, saying what changed, where it was built elsewhere and ``rebuild_engine`` can build it here,
    ArtifactError where its ONNX file is not beside it or is another one.
    """
    meta, plan = read_engine(path)
    report = meta.report[REPORT]
    changes = board.identity.changes_since(report[BUILT_ON])
    onnx = path.with_name(str(report[ONNX].get("built_from", "")))
    same = onnx.is_file() and read_onnx(onnx).sha256 == report[ONNX].get("sha256")
    if not changes:
        if onnx.is_file() and not same:
            print(f"edgedet: {onnx} has changed since {path} was built: `edgedet build` it again.", file=sys.stderr)
        return meta, plan
    message = f"{path} was built elsewhere ({'; '.join(changes)})"
    named = _onnx_path(path, report)
    if same:
        raise OutdatedError(f"{message}: `edgedet build {named}` builds it for this machine.")
    reason = "has changed since" if onnx.is_file() else "is not beside it"
    raise ArtifactError(f"{message}, and {onnx.name} {reason}: `edgedet build {named}`.")


def rebuild_engine(trt: Any, board: Board, path: Path) -> None:
    """Build an engine file for this board by the recipe that it records; raises the errors of ``build``."""
    report = read_engine(path)[0].report[REPORT]
    changes = board.identity.changes_since(report[BUILT_ON])
    recipe = _read_recipe(report, _onnx_path(path, report))
    build_engine(trt, board, recipe, choose_options(board), path, {"rebuilt_because": changes})


def _onnx_path(path: Path, report: Dict[str, Any]) -> Path:
    return path.with_name(str(report[ONNX].get("name", "")))


def _read_recipe(report: Dict[str, Any], onnx: Path) -> Recipe:
    values: Dict[str, Any] = report[RECIPE]
    parts: List[str] = list(values.get("to_float", ()))
    ranges = str(values.get("ranges", ""))
    return Recipe(
        str(values.get("name")),
        str(onnx),
        str(values.get("precision")),
        tuple(parts),
        str(onnx.with_name(ranges)) if ranges else "",
        bool(values.get("dense", False)),
    )
