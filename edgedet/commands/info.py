"""``edgedet info``: print what a file holds, as rows of text or as JSON."""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any, List, Optional, TextIO

from ..engines.table import model_suffixes
from ..info.card import write_card
from ..info.info import Info, info_of
from ..schemas import write_figures
from .options import add_json, add_variant, text_stream

DESCRIPTION = (
    f"Show the contents of a model file ({', '.join(model_suffixes())}) or checkpoint (.safetensors, .pth, .h5)."
)
EXAMPLE = """  edgedet info edgedet-out/my.onnx
  edgedet info edgedet-out/my_int8.tflite --html my_int8.html
  edgedet info my.pth --variant tf_efficientdet_d0 --json"""
INPUTS = ("file",)
OUTPUTS = ("json", "html")

LINE = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet info``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="model file or checkpoint")
    add_variant(parser)
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="also write a model card: one page to publish beside it"
    )
    add_json(parser, "the contents")


def run(args: argparse.Namespace) -> int:
    """Print the rows of a file's contents."""
    info = info_of(args.file, args.variant, _load_checkpoint)
    _print(info, text_stream(args.json))
    if args.html is not None:
        write_card(info, args.html)
        print(f"wrote {args.html}", file=text_stream(args.json))
    write_figures("info", args.json, asdict(info))
    return 0


def _load_checkpoint(path: Path, variant: Optional[str]) -> Any:
    from ..export.checkpoints.checkpoint import load_checkpoint  # host code; it imports torch

    return load_checkpoint(path, variant)


def _print(info: Info, text: TextIO) -> None:
    h, w = info.input_hw
    rows = {
        "file": f"{info.file}, {info.bytes / 1e6:.1f} MB",
        "family": f"{info.family} (compared with its own code: {info.compared})",
        "variant": info.variant,
        "size": f"{h}x{w}",
        "precision": info.precision,
        "outputs": f"of the {info.top_anchors} anchors with the best scores" if info.top_anchors else None,
        "pictures": f"up to {info.max_batch} at once" if info.max_batch > 1 else None,
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
    """Return the line "name  value"; nested values follow, each level two spaces further to the right."""
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
