"""The command table. The only place that prints an error and exits; commands are imported when asked for.

Text goes to stdout, progress and warnings to stderr. Exit codes: 0 done, 1 partly failed, 2 bad input or usage,
3 refused by a verification, 4 not now (no camera, a full disk: the same command may succeed later), 130, 143 and 129
interrupted by Ctrl-C, SIGTERM and SIGHUP (a closed terminal).
A command module has ``DESCRIPTION``, ``EXAMPLE``, ``add_arguments(parser)`` and ``run(args) -> int``, and, where its
options name files, ``INPUTS`` and ``OUTPUTS``: what it reads and writes, as attributes of ``args``. Those of
``OUTPUTS`` that may be folders are in ``OUTPUT_FOLDERS``, too; ``OUTPUTS_MAY_FAIL`` holds the attribute and the value
by which the user chose to go on without outputs that cannot be written. ``WRITES_INTO`` holds options of folders that
are filled. All this is checked before the work.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Optional, Union

from . import __version__
from .errors import EdgeDetError, InputError, with_own_pip
from .files import check_folder, check_outputs

# name -> (module, one line for the overview). Host modules are reached through this table only.
COMMANDS = {
    "train": ("edgedet.commands.train", "train a detector on labelled pictures of your own"),
    "export": ("edgedet.commands.export", "turn a checkpoint into a verified, fused model file"),
    "import": ("edgedet.commands.import_", "turn a checkpoint of any family into edgedet's own format"),
    "build": ("edgedet.commands.build", "build a TensorRT engine on the board that will run it"),
    "selftest": ("edgedet.commands.selftest", "show that edgedet works on this board; a result to send"),
    "info": ("edgedet.commands.info", "show the contents of a model file or a checkpoint"),
    "doctor": ("edgedet.commands.doctor", "say what can run on this machine, and how to install what is missing"),
    "run": ("edgedet.commands.run", "detect on a camera, video, stream or images"),
    "config": ("edgedet.commands.config", "check a configuration of edgedet run, or print an example"),
    "calibrate-motion": ("edgedet.commands.calibrate_motion", "find how little must change in a scene to be looked at"),
    "serve": ("edgedet.commands.serve", "answer another program's requests for boxes: Frigate's"),
    "cameras": ("edgedet.commands.cameras", "list this machine's cameras"),
    "label": ("edgedet.commands.label", "label pictures of a scene in a browser, for --data"),
    "sensitivity": ("edgedet.commands.sensitivity", "find the layers that lose the most accuracy in INT8"),
    "eval": ("edgedet.commands.eval", "measure a model file's accuracy on labelled images"),
    "plan": ("edgedet.commands.plan", "say which model fits a board and a time budget, and how surely"),
    "sweep": ("edgedet.commands.sweep", "find the checkpoint, size and precision that is best for your pictures"),
    "bench": ("edgedet.commands.bench", "measure the latency of model files, stage by stage"),
}


_FIRST_COMMANDS = """usage: edgedet COMMAND [options]

  edgedet run photo.jpg                          find people with the bundled model
  edgedet run --camera 0 --web                   the same on a camera, shown in a browser
  edgedet export --weights my.pth --int8         turn a checkpoint into model files

`edgedet --help` lists all commands, `edgedet COMMAND --help` the options of one."""


def _overview() -> argparse.ArgumentParser:
    lines = [f"  {name:<12} {text}" for name, (_, text) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="edgedet",
        usage="edgedet COMMAND [options]",
        description="EfficientDet on edge boards: export, quantise, run, measure.",
        epilog="commands:\n" + "\n".join(lines) + "\n\n`edgedet COMMAND --help` shows the options and an example.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(parser)
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"edgedet {__version__}")
    parser.add_argument("--print-completion", metavar="SHELL", help="print a completion script: bash, zsh, fish, tcsh")


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
    outputs = {_option(name): getattr(args, name) for name in getattr(module, "OUTPUTS", ())}
    folders = [_option(name) for name in getattr(module, "OUTPUT_FOLDERS", ())]
    may_fail = any(getattr(args, name) == value for name, value in getattr(module, "OUTPUTS_MAY_FAIL", {}).items())
    check_outputs(outputs, _names(args, getattr(module, "INPUTS", ())), may_fail, folders)
    for name in getattr(module, "WRITES_INTO", ()):
        check_folder(getattr(args, name))
    return int(module.run(args))


def _option(attribute: str) -> str:
    """Return the option whose value is an attribute of ``args``."""
    return f"--{attribute.replace('_', '-')}"


def _print_completion(shell: str) -> None:
    """Print what completes every command in a shell: it needs the options of all, so it imports them all."""
    from .completion import complete_files, completion_script

    parser = argparse.ArgumentParser(prog="edgedet")
    _add_options(parser)
    commands = parser.add_subparsers()
    for name, (path, text) in COMMANDS.items():
        module = import_module(path)
        command = commands.add_parser(name, help=text)
        module.add_arguments(command)
        complete_files(command, (*getattr(module, "INPUTS", ()), *getattr(module, "OUTPUTS", ())))
    print(completion_script(parser, shell))


def _names(args: argparse.Namespace, attributes: Iterable[str]) -> Iterator[Union[str, Path]]:
    for attribute in attributes:
        value = getattr(args, attribute)
        if value is not None:
            yield from value if isinstance(value, list) else [value]


def main(argv: Optional[List[str]] = None) -> int:
    """Run one command and return its exit code; ``argv`` defaults to the process's arguments."""
    argv = sys.argv[1:] if argv is None else argv
    _replace_closed_streams()
    interrupted = [signal.SIGINT]
    try:
        with _signals_interrupt(interrupted):
            code = _run(argv)
            sys.stdout.flush()
            return code
    except EdgeDetError as error:
        print(f"edgedet: {with_own_pip(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("edgedet: interrupted", file=sys.stderr)
        return 128 + interrupted[-1]
    except BrokenPipeError:  # `edgedet ... | head`: nobody reads on
        _drop_stdout()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF) or _stdout_works():
            raise
        _drop_stdout()
        print(f"edgedet: cannot write to stdout: {error.strerror}.", file=sys.stderr)
        return InputError.exit_code


def _run(argv: List[str]) -> int:
    _check_names(argv)
    try:
        if argv and argv[0] in COMMANDS:
            return _run_command(argv[0], argv[1:])
        parser = _overview()
        if argv and not argv[0].startswith("-"):
            parser.error(f"unknown command {argv[0]!r}; choose from {', '.join(COMMANDS)}")
        args = parser.parse_args(argv)
        if args.print_completion is not None:
            _print_completion(args.print_completion)
            return 0
        if not argv:
            print(_FIRST_COMMANDS, file=sys.stderr)
            return 2
        parser.print_help()
        return 0
    except SystemExit:
        sys.stdout.flush()  # argparse has printed a help text, which a full disk may not take
        raise


@contextmanager
def _signals_interrupt(interrupted: List[signal.Signals]) -> Iterator[None]:
    """Let SIGTERM and SIGHUP act as Ctrl-C within the block, so that half-written files and children go, too.

    interrupted: takes the signal that came. A signal that is ignored, as SIGHUP is under nohup, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python gives signals to the main thread only
        return

    def interrupt(number: int, _: Any) -> None:
        interrupted.append(signal.Signals(number))
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)


def _replace_closed_streams() -> None:
    """Discard what is printed to a stream that was closed (`>&-`): else the next file that is opened would get it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the process's life
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")  # class names may have letters that the locale has not


def _check_names(argv: List[str]) -> None:
    """Raise InputError where names on the command line have letters that no library could pass on."""
    encoding = sys.getfilesystemencoding()
    if encoding.lower().replace("-", "") != "utf8":
        for word in argv:
            if not word.isascii():
                shown = word.encode("ascii", "backslashreplace").decode("ascii")
                raise InputError(
                    f"the name {shown} has letters that this locale ({encoding}) does not have: set PYTHONUTF8=1, or "
                    "LC_ALL=C.UTF-8."
                )


def _stdout_works() -> bool:
    """Return whether stdout takes an empty line; Python's own buffer is empty after a write that failed."""
    try:
        print(flush=True)
    except OSError:
        return False
    return True


def _drop_stdout() -> None:
    """Discard what is left of stdout: else Python would try to write it at exit, and print an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
