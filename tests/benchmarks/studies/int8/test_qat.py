"""The study of quantisation-aware training: its three files of a seed, its table, and that it goes on where it was."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="networks are trained by PyTorch")
pytest.importorskip("ai_edge_litert", reason="files are run by LiteRT")
from training_sets import tiny_checkpoint, write_coco

from edgedet.benchmarks.studies.int8.qat import main, make_table


def test_the_table_has_the_mean_of_the_seeds_and_their_ends(tmp_path):
    cells = {"float": {"ap": 0.4}}
    for seed, ap in enumerate((0.30, 0.33)):
        cells[f"calibrated, seed {seed}"] = {"ap": ap, "cpu_s": 1.0}
        cells[f"rounded, seed {seed}"] = {"ap": ap + 0.02, "cpu_s": 60.0 + 120.0 * seed}
    cells["control, seed 0"] = {"ap": 0.31, "cpu_s": 1.0}
    path = tmp_path / "qat-street-d0.json"
    path.write_text(json.dumps({"model": "d0", "size": "64x64", "settings": {"rate": 1e-3}, "cells": cells}))
    assert make_table([path]).splitlines()[2] == (
        "| street | d0, 64x64 | 0.001 | 2 | 0.4000 "
        "| 0.3150 (0.3000 to 0.3300) | 0.3350 (0.3200 to 0.3500) | 0.3100 | +0.0100 | 2.0 |"
    )


def test_the_docs_have_the_table_of_the_measurement():
    """After a new one: python -m edgedet.benchmarks.studies.int8.qat --docs docs/qat-*.json."""
    docs = Path(__file__).parents[4] / "docs"
    assert make_table(sorted(docs.glob("qat-*.json"))) in (docs / "training.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_second_start_measures_what_is_missing_only(tmp_path, capsys):
    data, test = write_coco(tmp_path, "train", 8, 0), write_coco(tmp_path, "val", 4, 1)
    weights, out = tiny_checkpoint(tmp_path / "t.safetensors"), tmp_path / "out"
    command = [str(weights), "--data", str(data), "--test", str(test), "--out", str(out), "--seeds", "1"]
    assert main([*command, "--arms", "calibrated", "rounded"]) == 0
    before = json.loads((out / "qat.json").read_text())["cells"]
    assert list(before) == ["float", "calibrated, seed 0", "rounded, seed 0"]
    assert all(0 <= ap <= 1 for name in list(before)[1:] for ap in before[name]["aps"])
    assert main(command) == 0
    after = json.loads((out / "qat.json").read_text())["cells"]
    assert list(after) == [*before, "control, seed 0"]
    assert {name: after[name] for name in before} == before
    assert main([*command, "--epochs", "2"]) == 2
    assert "of other settings" in capsys.readouterr().err
