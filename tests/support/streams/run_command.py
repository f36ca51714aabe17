"""`edgedet run` as a command, on the fake model of the working folder, and the lines that it wrote."""

from __future__ import annotations

import json
from pathlib import Path

from edgedet import cli


def run(*options, model="model.fake"):
    return cli.main(["run", *([model] if model else []), *map(str, options)])


def lines_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
