"""The commands that the documents tell users to type, and what of them is downloaded."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def commands(document: str, heading: str) -> list[str]:
    """The lines of the ``sh`` blocks below a heading, up to the next heading of any level; a ``\\`` joins two."""
    text = (DOCS / document).read_text(encoding="utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None, f"docs/{document} has no heading {heading!r}"
    blocks = re.findall(r"^```sh\n(.*?)^```", section.group(1), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    assert lines, f"docs/{document}, {heading!r}, has no commands"
    return lines


def code(document: str, heading: str, language: str) -> str:
    """The first block of a language below a heading."""
    text = (DOCS / document).read_text(encoding="utf-8")
    block = re.search(rf"^#+ {re.escape(heading)}\n.*?^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block is not None, f"docs/{document}, {heading!r}, has no block of {language}"
    return block.group(1)


def words_after(line: str, program: str, action: str) -> list[str]:
    """What ``program action`` is asked to install, without options, in a line of the documents."""
    words = []
    for command in re.split(r"&&|;", line):
        parts = shlex.split(command, comments=True)
        at = [index for index, part in enumerate(parts) if part.split("/")[-1] == program]
        if at and action in parts[at[0] :]:
            words += [part for part in parts[parts.index(action) + 1 :] if not part.startswith("-")]
    return words
