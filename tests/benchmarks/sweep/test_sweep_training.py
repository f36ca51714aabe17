"""`edgedet sweep --train` makes the checkpoints first, each once, and a training that fails is said in its rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("pycocotools", reason="needs the train extra")

from training_sets import tiny_checkpoint, write_coco

from edgedet import cli
from edgedet.benchmarks.sweep import run_sweep as run_sweep_module
from edgedet.benchmarks.sweep.cells import DONE, FAILED, CellResult, list_cells
from edgedet.benchmarks.sweep.run_sweep import SweepRequest, run_sweep
from edgedet.benchmarks.sweep.trials import Trained, Training, Trial, check_start, run_trial, run_trials


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    start = tiny_checkpoint(folder / "tiny.safetensors")
    return Trial(str(start), None, None, Training(write_coco(folder, "data", 10, 0), None, 1, 4), folder / "out", 1)


def test_a_training_that_ended_is_not_run_again(trial):
    first = run_trial(trial)
    assert first.failure == ""
    assert Path(first.best).is_file()
    assert first.epoch == 1
    said = []
    assert run_trials([trial], None, said.append) == [first]
    assert said == ["1 trainings, 1 done earlier"]
    Path(first.best).unlink()
    assert run_trial(trial).best == first.best


def test_a_training_that_fails_is_a_result(trial, tmp_path):
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"PK\x03\x04 and no more")
    failed = run_trial(Trial(str(damaged), None, None, trial.training, tmp_path, 1))
    assert "damaged.pth is cut off or damaged" in failed.failure
    assert failed.best == ""


def test_rows_are_those_of_the_trained_checkpoints(trial, tmp_path, monkeypatch):
    """Two precisions share one training; where it fails, both rows say why."""
    weights = tmp_path / "best.safetensors"
    weights.write_bytes(b"trained")
    asked = []

    def trials(wanted, cluster, say):
        asked.extend(wanted)
        return [Trained(str(weights), 0.5, 3), Trained(failure="no disk")]

    def cells(request, missing, ledger, say):
        return {key: CellResult(key, cell.name, DONE, precision=cell.precision, ap=0.25) for key, cell in missing}

    monkeypatch.setattr(run_sweep_module, "run_trials", trials)
    monkeypatch.setattr(run_sweep_module, "_run_cells", cells)
    starts = [trial.start, "tf_efficientdet_lite0"]
    request = SweepRequest(
        tuple(list_cells(starts, [(128, 128)], ["fp32", "int8"], None, check_start)),
        trial.training.data,
        None,
        tmp_path / "out",
        boards=("raspberry-pi-5",),
        training=trial.training,
    )
    rows = [row.result for row in run_sweep(request, lambda line: None)]
    assert [one.start for one in asked] == starts
    assert [(row.name, row.status) for row in rows] == [
        ("tiny trained 128x128 fp32", DONE),
        ("tiny trained 128x128 int8", DONE),
        ("tf_efficientdet_lite0 trained 128x128 fp32", FAILED),
        ("tf_efficientdet_lite0 trained 128x128 int8", FAILED),
    ]
    assert rows[2].reason == "training: no disk"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "3"], "--epochs goes with --train"),
        (["--train", "nowhere"], "--train nowhere: there is no such file"),
        (["--train", "l.json", "--epochs", "0"], "--epochs wants a number from 1 up"),
        (["--train", "l.json", "--weights", "efficientdet_d99"], "a model such as tf_efficientdet_lite0"),
    ],
)
def test_wrong_options_of_training_give_one_line(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    Path("l.json").write_text("{}")
    assert cli.main(["sweep", "--weights", "demo", "--data", "l.json", *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow  # Ray, two trainings and two exports
def test_two_workers_train_export_and_judge_two_sizes_and_nothing_is_done_twice(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="workers are Ray's (edgedet[cluster])")
    monkeypatch.chdir(tmp_path)
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    write_coco(tmp_path, "train", 10, 0)
    write_coco(tmp_path, "val", 4, 1)
    command = [sys.executable, "-m", "edgedet", "sweep", "--weights", "tiny.safetensors", "--size", "128x128,128x256"]
    command += ["--train", "train.json", "--epochs", "1", "--batch", "4", "--data", "val.json", "--precision", "fp32"]
    command += ["--threads", "1", "--workers", "2", "--out", "out", "--json", "sweep.json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def sweep() -> tuple[str, dict]:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout, json.loads(Path("sweep.json").read_text())

    out, first = sweep()
    assert "2 trainings, 0 done earlier" in out
    assert "2 candidates, 0 done earlier" in out
    sizes = ("128x128", "128x256")
    assert [item["result"]["name"] for item in first["candidates"]] == [f"tiny trained {size} fp32" for size in sizes]
    for item in first["candidates"]:
        assert item["result"]["images"] == 4
        assert (tmp_path / "out" / item["result"]["file"]).is_file()
        assert item["speeds"][0]["basis"] == "measured"
    out, again = sweep()
    assert "2 trainings, 2 done earlier" in out
    assert "2 candidates, 2 done earlier" in out
    assert [item["result"] for item in again["candidates"]] == [item["result"] for item in first["candidates"]]
