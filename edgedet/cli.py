"""The command table. The only place that prints an error and exits; commands are imported when asked for.

Text goes to stdout, progress and warnings to stderr. Exit codes: 0 done, 1 partly failed, 2 bad input or usage,
3 refused by a verification, 130 interrupted.
A command module has ``DESCRIPTION``, ``EXAMPLE``, ``add_arguments(parser)`` and ``run(args) -> int``, and, where its
options name files, ``INPUTS`` and ``OUTPUTS``: what it reads and writes, as attributes of ``args``.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Union

from . import __version__
from .errors import EdgeDetError
from .files import check_outputs

# name -> (module, one line for the overview). Host modules are reached through this table only.
COMMANDS = {
    "export": ("edgedet.commands.export", "turn a checkpoint into a verified, fused model file"),
    "import": ("edgedet.commands.import_", "turn a checkpoint of any family into edgedet's own format"),
    "build": ("edgedet.commands.build", "build a TensorRT engine on the board that will run it"),
    "selftest": ("edgedet.commands.selftest", "show that edgedet works on this board; a result to send"),
    "info": ("edgedet.commands.info", "say what a model file or a checkpoint holds"),
    "doctor": ("edgedet.commands.doctor", "say what can run on this machine, and what brings what is missing"),
    "run": ("edgedet.commands.run", "detect on a camera, video, stream or images"),
    "cameras": ("edgedet.commands.cameras", "list this machine's cameras"),
    "sensitivity": ("edgedet.commands.sensitivity", "find the layers that lose most in INT8"),
    "eval": ("edgedet.commands.eval", "measure a model file's accuracy on labelled images"),
    "plan": ("edgedet.commands.plan", "say which model fits a board and a time budget, and how surely"),
    "bench": ("edgedet.commands.bench", "measure the latency of model files, stage by stage"),
}


def _overview() -> argparse.ArgumentParser:
    lines = [f"  {name:<12} {text}" for name, (_, text) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="edgedet",
        usage="edgedet COMMAND [options]",
        description="EfficientDet on edge boards: export, quantise, run, measure.",
        epilog="commands:\n" + "\n".join(lines) + "\n\n`edgedet COMMAND --help` shows the options and an example.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgedet {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    return parser


def _run_command(name: str, argv: List[str]) -> int:
    module = import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser(
        prog=f"edgedet {name}",
        description=module.DESCRIPTION,
        epilog="example:\n" + module.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    args = parser.parse_args(argv)
    outputs = {f"--{name.replace('_', '-')}": getattr(args, name) for name in getattr(module, "OUTPUTS", ())}
    check_outputs(outputs, _names(args, getattr(module, "INPUTS", ())))
    return int(module.run(args))


def _names(args: argparse.Namespace, attributes: Iterable[str]) -> Iterator[Union[str, Path]]:
    for attribute in attributes:
        value = getattr(args, attribute)
        if value is not None:
            yield from value if isinstance(value, list) else [value]


def main(argv: Optional[List[str]] = None) -> int:
    """Run one command and return its exit code; ``argv`` defaults to the process's arguments."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv and argv[0] in COMMANDS:
            code = _run_command(argv[0], argv[1:])
            sys.stdout.flush()
            return code
        parser = _overview()
        if argv and not argv[0].startswith("-"):
            parser.error(f"unknown command {argv[0]!r}; choose from {', '.join(COMMANDS)}")
        parser.parse_args(argv)
        parser.print_help()
        return 0 if argv else 2
    except EdgeDetError as error:
        print(f"edgedet: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("edgedet: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `edgedet ... | head`: nobody reads on; keep Python's exit handler quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
