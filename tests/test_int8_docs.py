"""docs/int8.md holds the tables of the measurements beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the export extra")

from edgedet.benchmarks.int8_sweep import tables  # noqa: E402

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", ["cards", "street"])
def test_the_tables_are_those_of_the_measurement(name: str) -> None:
    """After a new sweep: python -m edgedet.benchmarks.int8_sweep --docs docs/int8-cards.json docs/int8-street.json."""
    assert tables(DOCS / f"int8-{name}.json") in (DOCS / "int8.md").read_text(encoding="utf-8")
