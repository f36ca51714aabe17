"""``edgedet config``: check a configuration file of ``edgedet run``, or print an example."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from ..runner.config import read_options, summarise
from ..runner.config_schema import EXAMPLE as EXAMPLE_FILE

DESCRIPTION = "Check a configuration file of `edgedet run --config`, or print one to begin with."
EXAMPLE = """  edgedet config --example > edgedet.yaml
  edgedet config --check edgedet.yaml
  edgedet run --config edgedet.yaml"""
INPUTS = ("check",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet config``."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--check", type=Path, metavar="FILE", help="say what is wrong in FILE, with the line, and exit with 2"
    )
    choice.add_argument("--example", action="store_true", help="print an example of such a file")


def run(args: argparse.Namespace) -> int:
    """Check or print; raises InputError with the line where a file cannot be used."""
    if args.example:
        print(EXAMPLE_FILE, end="")
    elif args.check is not None:
        print(f"{args.check} is fine: {summarise(read_options(args.check))}")
    else:
        raise InputError("edgedet config needs --check FILE or --example: give one of them.")
    return 0
