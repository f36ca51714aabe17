"""``edgedet import``: turn a checkpoint of any family into edgedet's own format. Imports torch only when it runs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import InputError, require
from ..export.checkpoints.import_checkpoint import import_checkpoint
from ..export.checkpoints.training import read_training
from ..info.info import FileSummary
from ..progress import count_of
from ..schemas import write_figures
from .options import add_class_names, add_json, add_training, add_variant, text_stream

DESCRIPTION = "Turn a checkpoint of effdet, zylo117 or google/automl into edgedet's own .safetensors file."
EXAMPLE = """  edgedet import efficientdet-d0.pth -o d0.safetensors
  edgedet import my.h5 -o my.safetensors --variant tf_efficientdet_lite2 --names my.names
  edgedet import efficientdet-d2_57.pth -o logo.safetensors --project projects/logo.yml"""
INPUTS = ("checkpoint", "names", "project")
OUTPUTS = ("output", "json")
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    checkpoint: Path
    output: Path
    variant: str | None
    names: Path | None
    anchor_ratios: str | None
    anchor_scales: str | None
    project: Path | None
    json: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet import``."""
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="file of any family (.pth, .h5, .safetensors)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=f"{SUFFIX} file to write")
    add_variant(parser)
    add_class_names(parser)
    add_training(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Import, and print what was recognised and written."""
    options = Options(**vars(args))
    if options.output.suffix != SUFFIX:
        raise InputError(f"edgedet import writes files ending in {SUFFIX}; got -o {options.output}.")
    for module in ("torch", "safetensors"):
        require(module, "edgedet import")
    training = read_training(options.anchor_ratios, options.anchor_scales, options.project)
    result = import_checkpoint(options.checkpoint, options.output, options.variant, options.names, training)
    _print(options, result)
    write_figures("import", options.json, asdict(result))
    return 0


def _print(options: Options, result: FileSummary) -> None:
    for note in result.notes:
        print(f"{options.checkpoint}: {note}", file=sys.stderr)
    h, w = result.input_hw
    classes = count_of(result.classes, "class", "es")
    print(
        f"recognised {options.checkpoint}: {result.family} {result.variant} (compared with its own code: "
        f"{result.compared}), {h}x{w}, {classes}, {(result.parameters or 0) / 1e6:.2f} M parameters\n"
        f"wrote {result.file}: {result.bytes / 1e6:.1f} MB",
        file=text_stream(options.json),
    )
