"""docs/benchmarks.md holds the tables of the JSON files beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgedet.benchmarks.bench_docs import document

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = sorted(DOCS.glob("benchmarks-*.json"))


def test_there_are_results() -> None:
    assert RESULTS


@pytest.mark.parametrize("path", RESULTS, ids=[path.stem for path in RESULTS])
def test_the_tables_are_those_of_the_measurement(path: Path) -> None:
    """After a new measurement: python -m edgedet.benchmarks.bench_docs docs/benchmarks-*.json."""
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert document(json.loads(path.read_text(encoding="utf-8"))) in text
