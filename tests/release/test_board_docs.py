"""docs/raspberry-pi.md and docs/boards.md name commands and options that exist."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import shlex
from importlib import import_module

import pytest
from installs import ROOT

from edgedet import Detector
from edgedet.cli import COMMANDS

PI = (ROOT / "docs/raspberry-pi.md").read_text(encoding="utf-8")
BOARDS = (ROOT / "docs/boards.md").read_text(encoding="utf-8")
SHELL = "".join(re.findall(r"^```(?:sh|ini)\n(.*?)^```", PI, re.MULTILINE | re.DOTALL)).replace("; done", "")
CALLS = re.findall(r"(?:^|[ /])(edgedet [a-z]+(?: .*)?)$", SHELL, re.MULTILINE)


def test_the_page_shows_every_step():
    assert {call.split()[1] for call in CALLS} == {"export", "doctor", "run", "bench"}
    assert len(CALLS) == 8


@pytest.mark.parametrize("call", CALLS)
def test_every_command_of_the_page_parses(call: str):
    _, name, *options = shlex.split(call.replace("$n", "2"))
    parser = argparse.ArgumentParser(exit_on_error=False)
    import_module(COMMANDS[name][0]).add_arguments(parser)
    parser.parse_args(options)


def test_the_python_example_uses_what_exists():
    (code,) = re.findall(r"^```python\n(.*?)^```", PI, re.MULTILINE | re.DOTALL)
    ast.parse(code)
    assert "threads" in inspect.signature(Detector).parameters
    assert hasattr(Detector, "class_names")


def test_the_page_says_that_no_board_was_seen():
    assert "**Emulated only.**" in PI


@pytest.mark.parametrize("script", re.findall(r"^python (scripts/\S+)", BOARDS, re.MULTILINE))
def test_every_script_that_is_named_is_there(script: str):
    assert (ROOT / script).is_file()
