"""What ``--json`` prints says the version of its schema, whichever command printed it."""

from __future__ import annotations

import argparse
import ast
import json
from importlib import import_module
from pathlib import Path

import pytest
from media import write_fake_model

from edgedet.cli import COMMANDS, main
from edgedet.schemas import SCHEMAS


def has_json(command: str) -> bool:
    parser = argparse.ArgumentParser()
    import_module(COMMANDS[command][0]).add_arguments(parser)
    return any("--json" in action.option_strings for action in parser._actions)


def kinds_written(command: str) -> list[str]:
    """Return the first argument of each call of ``write_figures`` in a command's module."""
    tree = ast.parse(Path(import_module(COMMANDS[command][0]).__file__ or "").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert "write_json" not in [call.func.id for call in calls if isinstance(call.func, ast.Name)]
    return [ast.literal_eval(call.args[0]) for call in calls if getattr(call.func, "id", "") == "write_figures"]


def test_every_command_with_json_writes_it_with_a_version():
    kinds = {kind for command in COMMANDS if has_json(command) for kind in kinds_written(command)}
    assert kinds == set(SCHEMAS)
    for command in COMMANDS:
        assert bool(kinds_written(command)) == has_json(command), command


@pytest.mark.parametrize("words", ["cameras", "doctor", "info MODEL", "plan --board raspberry-pi-5 --fps 10"])
def test_the_version_is_the_first_key(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = write_fake_model(tmp_path / "model.fake")
    main([*words.replace("MODEL", str(model)).split(), "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert list(figures)[0] == "schema"
    assert figures["schema"] == SCHEMAS[words.split()[0]]
