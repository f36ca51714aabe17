"""``edgedet info``: what a model file or a checkpoint holds, without running it. Knows headers; knows no picture."""

from __future__ import annotations

import argparse
import json
import struct
import sys
import textwrap
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, TextIO, Tuple

from ..artifact import MAX_META_BYTES, META_KEY, ArtifactMeta
from ..engines.base import read_meta
from ..engines.table import engine_for, model_suffixes
from ..errors import CheckpointError, InputError, require
from ..files import sha256_of, write_json
from ..parity import parity_of
from ..specs import DetectorSpec, spec_for

DESCRIPTION = f"Say what a model file ({', '.join(model_suffixes())}) or a checkpoint (.safetensors, .pth, .h5) holds."
EXAMPLE = """  edgedet info edgedet-out/my.onnx
  edgedet info my.pth --json"""

MAX_HEADER_BYTES = 16 << 20  # of a safetensors file; D7x's is 0.3 MB
LINE = 120
_TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt")
_PRECISIONS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}


@dataclass(frozen=True)
class Info:
    """What a file holds, as ``--json`` prints it.

    family:        the code base that the weights were trained with: "effdet", "zylo117" or "automl".
    variant:       the model's name in the family table.
    compared:      how far such models were compared with that code base (``edgedet.parity``).
    input_hw:      (height, width) in pixels.
    sha256:        of the file itself.
    source_sha256: of the checkpoint that the file was made from; the same for a checkpoint of another code base.
    parameters:    numbers in all tensors; None for model files.
    versions:      of the packages that wrote a model file.
    report:        figures of verification and gate, as they were written.
    notes:         choices that were made in reading a checkpoint.
    """

    file: str
    bytes: int
    sha256: str
    family: str
    variant: str
    compared: str
    input_hw: Tuple[int, int]
    precision: str
    classes: int
    class_names: Tuple[str, ...]
    source_sha256: str
    parameters: Optional[int] = None
    versions: Dict[str, str] = field(default_factory=dict)
    report: Dict[str, Any] = field(default_factory=dict)
    notes: Tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet info``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="model file or checkpoint")
    parser.add_argument(
        "--variant", metavar="NAME", help="for a checkpoint whose model is not clear from its tensors and name"
    )
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write it as JSON to FILE, or to stdout")


def run(args: argparse.Namespace) -> int:
    """Print what the file holds."""
    info = info_of(args.file, args.variant)
    _print(info, sys.stderr if args.json == "-" else sys.stdout)
    write_json(args.json, asdict(info))
    return 0


def info_of(path: Path, variant: Optional[str] = None) -> Info:
    """Return what a file holds; raises InputError in one line where it cannot be read or is of no known kind.

    variant: the model's name, where a checkpoint of another code base leaves it open.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}: name a model file or a checkpoint.")
    suffix = path.suffix.lower()
    if engine_for(path) is not None:
        return _from_meta(path, read_meta(path))
    if suffix not in _READERS:
        raise InputError(f"{path}: edgedet knows files ending in {', '.join((*model_suffixes(), *_READERS))}.")
    return _READERS[suffix](path, variant)


def _info(path: Path, spec: DetectorSpec, names: Tuple[str, ...], precision: str, source: str, **more: Any) -> Info:
    return Info(
        str(path), path.stat().st_size, sha256_of(path), spec.family, spec.name, parity_of(spec), spec.input_hw,
        precision, spec.num_classes, names, source, **more,
    )  # fmt: skip


def _from_meta(path: Path, meta: ArtifactMeta) -> Info:
    return _info(
        path, meta.spec, meta.class_names, meta.precision, meta.source_sha256, versions=meta.versions,
        report=meta.report,
    )  # fmt: skip


def _from_safetensors(path: Path, variant: Optional[str]) -> Info:
    """Our own files are read with the standard library; those that others saved, as any checkpoint."""
    header = _safetensors_header(path)
    try:
        embedded = json.loads(header.get("__metadata__", {}).get(META_KEY, "{}"))
        own = "spec" in embedded
        if own:
            spec = DetectorSpec.from_dict(embedded["spec"])
            names = tuple(str(name) for name in embedded["class_names"])
        tensors = [value for key, value in header.items() if key != "__metadata__"]
        kinds = sorted({str(tensor["dtype"]) for tensor in tensors})
        numbers = sum(_product(tensor["shape"]) for tensor in tensors)
    except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        raise CheckpointError(f"{path} has damaged metadata ({error}): save it again.") from None
    if not own:
        return _from_checkpoint(path, variant)
    if len(names) != spec.num_classes:
        raise CheckpointError(f"{path} has {spec.num_classes} classes, but {len(names)} names: save it again.")
    precision = "/".join(_PRECISIONS.get(kind, kind) for kind in kinds)
    return _info(path, spec, names, precision, str(embedded.get("sha256", "")), parameters=numbers)


def _safetensors_header(path: Path) -> Dict[str, Any]:
    """Return the JSON at the file's beginning: 8 bytes of length, little-endian, then the text."""
    with open(path, "rb") as file:
        start = file.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= size <= min(MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise CheckpointError(f"{path} is cut off or no safetensors file: copy or save it again.")
        text = file.read(size)
    try:
        header = json.loads(text.decode("utf-8"))
        data = max((value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"), default=0)
        meta = len(header.get("__metadata__", {}).get(META_KEY, ""))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}): copy or save it again.") from None
    if path.stat().st_size != 8 + size + data:
        raise CheckpointError(
            f"{path} has {path.stat().st_size} bytes, its header says {8 + size + data}: copy or save it again."
        )
    if meta > MAX_META_BYTES:
        raise CheckpointError(f"{path} has {meta} bytes of metadata; at most {MAX_META_BYTES} are expected.")
    return dict(header)


def _product(shape: List[int]) -> int:
    total = 1
    for side in shape:
        total *= int(side)
    return total


def _from_checkpoint(path: Path, variant: Optional[str]) -> Info:
    """Read a checkpoint with the half of edgedet that exports; it needs PyTorch."""
    if variant is not None:
        spec_for(variant)
    require("torch", f"reading {path.name}")
    found = import_module("edgedet.export.checkpoints.checkpoint").load_checkpoint(path, variant)
    numbers = sum(value.numel() for value in found.state.values())
    return _info(path, found.spec, found.class_names, "fp32", found.sha256, parameters=numbers, notes=found.notes)


_READERS: Dict[str, Callable[[Path, Optional[str]], Info]] = {
    ".safetensors": _from_safetensors,
    ".h5": _from_checkpoint,
    **dict.fromkeys(_TORCH_SUFFIXES, _from_checkpoint),
}


def _print(info: Info, text: TextIO) -> None:
    h, w = info.input_hw
    rows = {
        "file": f"{info.file}, {info.bytes / 1e6:.1f} MB",
        "family": f"{info.family} (compared with its own code: {info.compared})",
        "variant": info.variant,
        "size": f"{h}x{w}",
        "precision": info.precision,
        "parameters": None if info.parameters is None else f"{info.parameters / 1e6:.2f} M",
        "classes": f"{info.classes}: {', '.join(info.class_names)}",
        "sha256": info.sha256,
        "made from": None if info.source_sha256 in ("", info.sha256) else f"sha256 {info.source_sha256}",
        "written by": ", ".join(f"{name} {version}" for name, version in info.versions.items()) or None,
        "notes": "; ".join(info.notes) or None,
    }
    for name, value in rows.items():
        if value is not None:
            lines = textwrap.wrap(f"{name:<12}{value}", LINE, subsequent_indent=" " * 12, break_long_words=False)
            print("\n".join(lines), file=text)
    for name, value in info.report.items():
        print("\n".join(_lines(name, value, 0)), file=text)


def _lines(name: str, value: Any, depth: int) -> List[str]:
    """Return "name  value", and what is nested one step further to the right."""
    indent = "  " * depth
    if isinstance(value, dict):
        inner = [line for key, item in value.items() for line in _lines(str(key), item, depth + 1)]
        return [f"{indent}{name}", *inner]
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return _lines(name, {str(number): item for number, item in enumerate(value)}, depth)
    return [f"{indent}{name:<{max(26 - len(indent), 1)}} {_shown(value)}"]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
