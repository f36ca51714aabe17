"""Say in which ways an engine of a model can be built: what ``edgedet build`` tries."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

from ..engines.onnx_file import OnnxFile, read_onnx
from ..engines.tensorrt.build import Recipe
from ..errors import EdgeDetError

INT8_SUFFIX, TYPED_SUFFIX = "_int8", "_fp16"


def recipes(onnx: OnnxFile, precision: Optional[str], tune: bool) -> List[Recipe]:
    """Return what is to be tried, in the table's order.

    precision: "int8", "fp16" or "fp32"; None: what the file is for (FP16 for a float file).
    """
    path, float_path = str(onnx.path), find_float_file(onnx)
    fp16 = Recipe("fp16", str(float_path) if float_path is not None and not onnx.typed else path, "fp16")
    if onnx.meta.precision != "int8":
        return [Recipe("fp32", path, "fp32") if precision == "fp32" else fp16]
    if precision == "fp16":
        return [fp16]
    if precision == "fp32":
        return [Recipe("fp32", path if float_path is None else str(float_path), "fp32")]
    as_written = Recipe("int8", path, "int8")
    if not tune:
        return [as_written]
    table = onnx.path.with_name(f"{_without_suffix(onnx)}.table.json")
    ranges = str(table)
    everything = [
        Recipe("int8, all", path, "int8", ranges=ranges),
        Recipe("int8, all, dense", path, "int8", ranges=ranges, dense=True),
    ]
    return [
        *(everything if table.is_file() else ()),
        as_written,
        Recipe("int8, dense", path, "int8", dense=True),
        Recipe("int8, fpn and heads fp16", path, "int8", ("fpn", "heads")),
        fp16,
    ]


def find_float_file(onnx: OnnxFile) -> Optional[Path]:
    """Return the float file that an INT8 one was made beside, where it is there and of the same checkpoint."""
    name = _without_suffix(onnx)
    path = onnx.path.with_name(f"{name[: -len(INT8_SUFFIX)]}.onnx") if name.endswith(INT8_SUFFIX) else None
    if path is None or not path.is_file():
        return None
    try:
        float_onnx = read_onnx(path)
    except EdgeDetError:
        return None
    same = float_onnx.meta.source_sha256 == onnx.meta.source_sha256 and float_onnx.meta.spec == onnx.meta.spec
    return path if same and float_onnx.meta.precision == "fp32" else None


def _without_suffix(onnx: OnnxFile) -> str:
    """Return NAME_int8 of NAME_int8.onnx and of NAME_int8_fp16.onnx."""
    stem = onnx.path.stem
    return stem[: -len(TYPED_SUFFIX)] if onnx.typed and stem.endswith(TYPED_SUFFIX) else stem
