"""What docs/benchmarking.md says of the JSON of `edgedet bench`, and what a result has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
_OPENED = ("conditions", "profile", "sustain")  # other dicts are one entry: their keys are stages and sensors


def documented() -> set[str]:
    """Return the entries of the documentation's table, such as "models[].fps"."""
    text = (DOCS / "benchmarking.md").read_text(encoding="utf-8").partition("## The JSON")[2].partition("\n## ")[0]
    return {name for cell in re.findall(r"^\| (`.+?) \|", text, re.MULTILINE) for name in re.findall(r"`(.+?)`", cell)}


def entries_of(result: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the entries of a result, in the documentation's way of writing."""
    for key, value in result.items():
        name = f"{prefix}{key}"
        if key in _OPENED:
            yield from entries_of(value, f"{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                yield from entries_of(item, f"{name}[].")
        else:
            yield name
