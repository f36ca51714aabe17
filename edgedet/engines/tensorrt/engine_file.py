"""A .engine file: TensorRT's plan, and behind it what it is and where it belongs. Writes, reads and rebuilds it.

The plan alone says nothing of its model, and loads only under the TensorRT and on the GPU that built it.
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
from .build import BuildOptions, Recipe, file_for, options_for
from .build_process import Built, build

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
) -> Tuple[ArtifactMeta, Built]:
    """Build in a child process and write a whole file or none.

    report: further entries of the engine's report. Raises what the build raises, in one line.
    """
    onnx = file_for(trt, Path(recipe.onnx))
    if recipe.precision == "int8":
        check_int8(board.identity.compute_capability)
    with atomic_path(path) as temporary:
        built = build(recipe, options, temporary)
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
                    "build": asdict(built),
                    **report,
                },
            },
        )
        temporary.write_bytes(with_trailer(temporary.read_bytes(), meta))
    return meta, built


def with_report(path: Path, meta: ArtifactMeta, plan: bytes, report: Dict[str, Any]) -> ArtifactMeta:
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
    told = f"{path} was built elsewhere ({'; '.join(changes)})"
    named = _named_onnx(path, report)
    if same:
        raise OutdatedError(f"{told}: `edgedet build {named}` builds it for this machine.")
    why = "has changed since" if onnx.is_file() else "is not beside it"
    raise ArtifactError(f"{told}, and {onnx.name} {why}: `edgedet build {named}`.")


def rebuild_engine(trt: Any, board: Board, path: Path) -> None:
    """Build an engine file for this board, in the way that was kept; raises what the build raises."""
    report = read_engine(path)[0].report[REPORT]
    changes = board.identity.changes_since(report[BUILT_ON])
    recipe = _recipe_of(report, _named_onnx(path, report))
    build_engine(trt, board, recipe, options_for(board), path, {"rebuilt_because": changes})


def _named_onnx(path: Path, report: Dict[str, Any]) -> Path:
    return path.with_name(str(report[ONNX].get("name", "")))


def _recipe_of(report: Dict[str, Any], onnx: Path) -> Recipe:
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
