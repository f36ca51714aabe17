"""docs/benchmarks.md holds the tables of the JSON files beside it, and docs/benchmarking.md the entries of the JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_schema import DOCS, documented, entries_of
from media import write_clip, write_fake_model

from edgedet import cli
from edgedet.benchmarks.latency.compare import compare
from edgedet.benchmarks.latency.result import read_result, result_from_json
from edgedet.benchmarks.studies.latency_tables import document

RESULTS = sorted(DOCS.glob("benchmarks-*.json"))


def test_there_are_results() -> None:
    assert RESULTS


@pytest.mark.parametrize("path", RESULTS, ids=[path.stem for path in RESULTS])
def test_the_tables_are_those_of_the_measurement(path: Path) -> None:
    """After a new measurement: python -m edgedet.benchmarks.studies.latency_tables docs/benchmarks-*.json."""
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert document(result_from_json(result)) in text
    assert set(entries_of(result)) <= documented()


def test_a_second_run_lies_within_the_noise_of_the_first() -> None:
    first, second = (read_result(DOCS / f"{name}-d0-d4-avx2.json") for name in ("benchmarks", "second-run"))
    rows = compare(first, second).rows
    assert {row.verdict for row in rows} == {"within noise"}
    ratios = [row.ratio for row in rows if row.stage == "end to end"]
    assert (len(ratios), f"{min(ratios):.2f}", f"{max(ratios):.2f}") == (15, "0.98", "1.14")  # docs/benchmarks.md


def test_each_entry_of_the_json_is_documented_and_each_documented_one_is_there(tmp_path, monkeypatch, capsys) -> None:
    """A profile's entries are compared in test_bench_profile.py, because fake models have none."""
    pytest.importorskip("cv2", reason="edgedet bench resizes by OpenCV")
    monkeypatch.chdir(tmp_path)
    write_fake_model(Path("a.fake"))
    write_clip(Path("clip.avi"), frames=2)
    words = "bench --model a.fake --source clip.avi --seconds 0 --runs 2 --threads 1 --sustain 1s --json"
    assert cli.main(words.split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(entries_of(result)) == {name for name in documented() if ".profile." not in name}
