"""What a shell needs to complete edgedet's commands, options and files: a script that shtab writes."""

from __future__ import annotations

import argparse
from typing import Any, Iterable

from .errors import InputError, require

SHELLS = ("bash", "zsh", "fish", "tcsh")


def complete_files(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Let a shell offer files for those arguments of ``parser`` whose value is one of ``names``."""
    shtab: Any = require("shtab", "edgedet --print-completion")
    names = frozenset(names)
    for action in parser._actions:  # argparse has no public list of them; shtab reads it, too
        if action.dest in names:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for one of SHELLS; raises InputError for another shell, MissingDependency without shtab."""
    shtab: Any = require("shtab", "edgedet --print-completion")
    if shell not in SHELLS or shell not in shtab.SUPPORTED_SHELLS:
        raise InputError(f"--print-completion takes {', '.join(SHELLS)}; got {shell!r}.")
    return str(shtab.complete(parser, shell))
