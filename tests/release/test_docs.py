"""The documents as a site: it builds without a warning, and every command in it has options that exist."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from edgedet.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
CONTROL = {"|", ">", ">>", "&&", "&", ";", "2>"}  # where a shell command ends


def edgedet_commands(page: Path) -> list[list[str]]:
    """Return the words behind ``edgedet`` of each such command in the page's shell blocks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    commands = []
    for line in "".join(blocks).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for start, word in enumerate(words):
            if Path(word).name == "edgedet" and words[start + 1 : start + 2] and words[start + 1] in COMMANDS:
                behind = words[start + 1 :]
                end = next((place for place, part in enumerate(behind) if part in CONTROL), len(behind))
                commands.append(behind[:end])
    return commands


COMMANDS_OF_PAGES = [(page, words) for page in PAGES for words in edgedet_commands(page)]


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS_OF_PAGES, ids=[f"{page.stem}-{' '.join(words)}" for page, words in COMMANDS_OF_PAGES]
)
def test_every_command_of_the_documents_has_options_that_exist(page: Path, words: list[str]):
    """README's commands run (test_readme.py); those of the pages need boards and cameras, and are parsed."""
    name, *options = words
    module = import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser(exit_on_error=False)
    module.add_arguments(parser)
    _, unknown = parser.parse_known_args(options)
    assert unknown == []


def test_the_commands_of_the_documents_are_found():
    """So that a changed fence does not silently empty the test above."""
    assert len(COMMANDS_OF_PAGES) > 30
    assert {words[0] for _, words in COMMANDS_OF_PAGES} >= {"run", "export", "bench", "doctor", "plan", "eval"}


def test_the_site_builds_without_a_warning(tmp_path: Path):
    """Strict: a page outside the navigation, a dead link or a missing picture ends the build."""
    pytest.importorskip("mkdocs", reason="needs mkdocs-material of the extra dev")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "What do you want to do" in (tmp_path / "site/index.html").read_text(encoding="utf-8")


def test_the_index_names_every_page():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in index, f"docs/index.md does not name {page.name}"
