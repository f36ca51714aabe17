"""``edgedet import``: a checkpoint of any family -> edgedet's own ``.safetensors``. Imports torch only when it runs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import InputError, require
from ..files import sha256_of, write_json
from ..parity import parity_of

DESCRIPTION = "Turn a checkpoint of effdet, zylo117 or google/automl into edgedet's own .safetensors file."
EXAMPLE = """  edgedet import efficientdet-d0.pth -o d0.safetensors
  edgedet import my.h5 -o my.safetensors --variant tf_efficientdet_lite2 --names my.names"""
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ImportResult:
    """What an import recognised and wrote, as ``--json`` prints it; ``source_sha256`` is of the checkpoint."""

    file: str
    bytes: int
    sha256: str
    source_sha256: str
    family: str
    variant: str
    compared: str
    input_hw: tuple[int, int]
    classes: int
    parameters: int
    notes: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet import``."""
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="file of any family (.pth, .h5, .safetensors)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=f"{SUFFIX} file to write")
    parser.add_argument("--variant", metavar="NAME", help="the model's name where tensors and file name leave it open")
    parser.add_argument("--names", type=Path, metavar="FILE", help="class names, one a line (default: as for export)")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the figures as JSON to FILE, or to stdout"
    )


def run(args: argparse.Namespace) -> int:
    """Import, print what was recognised and written."""
    if args.output.suffix != SUFFIX:
        raise InputError(f"edgedet import writes files ending in {SUFFIX}; got -o {args.output}.")
    for module in ("torch", "safetensors"):
        require(module, "edgedet import")
    result = import_checkpoint(args.checkpoint, args.output, args.variant, args.names)
    for note in result.notes:
        print(f"{args.checkpoint}: {note}", file=sys.stderr)
    text = sys.stderr if args.json == "-" else sys.stdout
    h, w = result.input_hw
    print(
        f"recognised {args.checkpoint}: {result.family} {result.variant} (compared with its own code: "
        f"{result.compared}), {h}x{w}, {result.classes} classes, {result.parameters / 1e6:.2f} M parameters",
        file=text,
    )
    print(f"wrote {result.file}: {result.bytes / 1e6:.1f} MB", file=text)
    write_json(args.json, asdict(result))
    return 0


def import_checkpoint(
    path: Path, output: Path, variant: str | None = None, names_file: Path | None = None
) -> ImportResult:
    """Write ``path``'s weights to ``output``; raises CheckpointError in one line where they cannot be used."""
    from ..export.checkpoints.checkpoint import load_checkpoint, save_checkpoint
    from ..specs import spec_for

    if variant is not None:
        spec_for(variant)
    checkpoint = load_checkpoint(path, variant, names_file)
    save_checkpoint(checkpoint, output)
    spec = checkpoint.spec
    return ImportResult(
        file=str(output),
        bytes=output.stat().st_size,
        sha256=sha256_of(output),
        source_sha256=checkpoint.sha256,
        family=spec.family,
        variant=spec.name,
        compared=parity_of(spec),
        input_hw=spec.input_hw,
        classes=spec.num_classes,
        parameters=sum(value.numel() for value in checkpoint.state.values()),
        notes=checkpoint.notes,
    )
