"""docs/int8.md holds the tables of the measurements beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the export extra")

from edgedet.benchmarks.studies.int8 import cost
from edgedet.benchmarks.studies.int8.cost import table
from edgedet.benchmarks.studies.int8.sweep import tables
from edgedet.calibration.ranges import refine
from edgedet.specs import resized, spec_for

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["cards", "street"])
def test_the_tables_are_those_of_the_measurement(name: str) -> None:
    """After a new sweep: python -m edgedet.benchmarks.studies.int8.sweep --docs docs/int8-*.json."""
    assert tables(DOCS / f"int8-{name}.json") in (DOCS / "int8.md").read_text(encoding="utf-8")


def test_the_costs_are_those_of_the_measurement() -> None:
    """After a new one: python -m edgedet.benchmarks.studies.int8.cost --docs docs/int8-cost.json."""
    rows = json.loads((DOCS / "int8-cost.json").read_text(encoding="utf-8"))["rows"]
    assert table(rows) in (DOCS / "int8.md").read_text(encoding="utf-8")
    assert len(rows) > 1


def test_what_a_model_costs_is_measured(tmp_path, capsys, monkeypatch) -> None:
    small = resized(spec_for("tf_efficientdet_d0"), (128, 128))
    monkeypatch.setattr(cost, "spec_for", lambda name: small)
    for name in ("RANKED", "WORST_DENSE", "WORST_SPARSE", "MOST_FRAMES"):
        monkeypatch.setattr(refine, name, 1)
    row, _ = cost.measure_cost(0, 1, "none", 1)
    assert row["gmacs"] == pytest.approx(2.46 / 16, rel=0.03)
    assert row["seconds"] > 0
    assert row["peak_gb"] >= row["before_gb"] > 0.1


@pytest.mark.parametrize(("option", "said"), [("--phi 9", "--phi takes 0 to 8; got 9"), ("--frames 0", "from 1 on")])
def test_wrong_numbers_are_refused(option: str, said: str, capsys) -> None:
    assert cost.main(option.split()) == 2
    assert said in capsys.readouterr().err
