"""`edgedet run` as a command on cameras, and the whole lines that it wrote."""

from __future__ import annotations

import json
from pathlib import Path

from edgedet import cli


def run(*options):
    return cli.main(["run", "model.fake", "--threads", "1", *map(str, options)])


def lines_of(path):
    text = Path(path).read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]
