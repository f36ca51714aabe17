"""`edgedet train` with a tiny detector: what it writes, that it learns, that a killed training goes on."""

import csv
import json

import pytest

torch = pytest.importorskip("torch")
from training_sets import CLASSES, TINY, tiny_checkpoint, write_coco

from edgedet import cli
from edgedet.errors import InputError
from edgedet.export.checkpoints.checkpoint import load_checkpoint
from edgedet.judge.labels import read_dataset
from edgedet.training import fit as fitting
from edgedet.training import train as training
from edgedet.training.augment import NONE, Augmentation
from edgedet.training.fit import FitOptions, FromPixels, fit
from edgedet.training.preflight import Preflight
from edgedet.training.processes import Processes
from edgedet.training.samples import Pictures, select_labels
from edgedet.training.start import make_fresh_network

torch.set_num_threads(1)  # several spin while they wait for each other
ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return (
        folder,
        write_coco(folder, "train", 8, 0),
        write_coco(folder, "val", 3, 1),
        tiny_checkpoint(folder / "t.safetensors"),
    )


def trained(tmp_path, sets, epochs=2, resume=False, judge=lambda model, epoch: {"AP": None}, how=None, **more):
    """Train the tiny detector by the library's loop; return its averaged weights and the rows."""
    data = read_dataset(sets[1])
    torch.manual_seed(0)
    pictures = Pictures(select_labels(data.images, (0, 1)), TINY, how or Augmentation(), seed=0)
    rows = []
    model = fit(
        FromPixels(make_fresh_network(TINY)),
        TINY,
        pictures,
        FitOptions(epochs, batch=4, rate=2e-3, resume=resume, **more),
        ALONE,
        tmp_path,
        judge,
        lambda history, left_s: rows.append(history[-1]),
    )
    return {key: value.clone() for key, value in model.state_dict().items()}, rows


def test_a_training_writes_a_checkpoint_with_its_classes_and_its_records(tmp_path, sets, capsys):
    folder, data, val, weights = sets
    out = tmp_path / "out"
    arguments = [
        "train",
        "--weights",
        weights,
        "--data",
        data,
        "--val",
        val,
        "--epochs",
        "2",
        "--batch",
        "4",
        "--threads",
        "1",
    ]
    assert cli.main([*map(str, arguments), "--out", str(out), "--json", str(tmp_path / "r.json")]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    checkpoint = load_checkpoint(out / "best.safetensors")
    assert checkpoint.class_names == CLASSES
    assert checkpoint.spec == TINY
    with open(out / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss"]) == pytest.approx(result["history"][1]["loss"], rel=1e-4)
    assert max(float(row["AP"]) for row in rows) == pytest.approx(result["best_ap"], rel=1e-4)
    assert sorted(path.name for path in (out / "validation").iterdir()) == ["epoch_001.jpg", "epoch_002.jpg"]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "epoch 2: loss" in capsys.readouterr().err


def test_the_loss_falls(tmp_path, sets):
    _, rows = trained(tmp_path, sets, epochs=6, how=NONE)
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]


@pytest.mark.parametrize("at", ["between epochs", "within an epoch"])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, sets, monkeypatch, at):
    whole, _ = trained(tmp_path / "whole", sets)

    class Killed(Exception):
        pass

    def kill(*_):
        raise Killed

    if at == "between epochs":
        judge = lambda model, epoch: kill() if epoch == 2 else {"AP": None}  # noqa: E731
        with pytest.raises(Killed):
            trained(tmp_path / "cut", sets, judge=judge)
    else:
        monkeypatch.setattr(fitting, "SAVE_EVERY_S", 0.0)
        original, steps = fitting.take_step, []

        def step(*arguments):
            steps.append(1)
            return original(*arguments) if len(steps) < 4 else kill()

        monkeypatch.setattr(fitting, "take_step", step)
        with pytest.raises(Killed):
            trained(tmp_path / "cut", sets)
        assert torch.load(tmp_path / "cut/state.pt", weights_only=True)["step"] == 1
        monkeypatch.setattr(fitting, "take_step", original)
    resumed, _ = trained(tmp_path / "cut", sets, resume=True)
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_a_training_goes_on_with_the_same_options_only(tmp_path, sets, capsys):
    folder, data, val, weights = sets
    trained(tmp_path, sets, epochs=1)
    common = [
        "train",
        "--weights",
        str(weights),
        "--data",
        str(data),
        "--val",
        str(val),
        "--out",
        str(tmp_path),
        "--threads",
        "1",
    ]
    assert cli.main([*common, "--epochs", "3", "--resume"]) == 2
    assert "epochs 1, now it is 3" in capsys.readouterr().err
    with pytest.raises(InputError, match="optimiser adamw, now it is sgd"):
        trained(tmp_path, sets, epochs=1, resume=True, optimiser="sgd")
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 no state")
    assert cli.main([*common, "--epochs", "1", "--resume"]) == 2
    assert "damaged" in capsys.readouterr().err


def test_half_precision_trains_as_well(tmp_path, sets):
    torch.manual_seed(0)
    pictures = Pictures(select_labels(read_dataset(sets[1]).images, (0, 1)), TINY, NONE, seed=0)
    options, rows = FitOptions(4, batch=4, rate=2e-3, amp=True), []
    model = FromPixels(make_fresh_network(TINY))
    fit(
        model,
        TINY,
        pictures,
        options,
        ALONE,
        tmp_path,
        lambda m, e: {},
        lambda history, left_s: rows.extend(history[-1:]),
    )
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


def test_a_frozen_backbone_stays_as_it_is(tmp_path, sets):
    torch.manual_seed(0)
    model = FromPixels(make_fresh_network(TINY))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    data = read_dataset(sets[1])
    pictures = Pictures(select_labels(data.images[:4], (0, 1)), TINY, NONE, seed=0)
    options = FitOptions(1, batch=4, frozen=("backbone",))
    fit(model, TINY, pictures, options, ALONE, tmp_path, lambda m, e: {}, lambda history, left_s: None)
    after = model.state_dict()
    moved = {key.split(".")[1] for key, value in before.items() if not torch.equal(value, after[key])}
    assert moved == {"fpn", "class_net", "box_net"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "square,car"], "--classes wants different names of the data's classes (square, disc)"),
        (["--freeze", "head"], "--freeze takes backbone and norms; got 'head'"),
        (["--lr", "0"], "--lr wants a number above 0"),
        (["--flip", "1.5"], "--flip wants a number from 0 to 1; got 1.5"),
        (["--resume", "--out", "nowhere"], "there is no nowhere/state.pt to go on from"),
        (["--batch", "1"], "a BatchNorm needs two values, and of 128x128 pixels the coarsest level has one"),
        (["--colour", "inf"], "--colour wants a number from 0; got inf"),
        (["--seed", str(2**63)], "--seed wants a number below 2**63"),
        (["--classes", ","], "--classes wants names with commas between"),
        (["--device", "meta"], "cannot train on --device meta"),
        (["--size", "0"], "--size needs at least 128 pixels a side"),
        (["--device", "cuda:7"], "cannot train on --device cuda:7"),
        (["--names", "/nowhere.txt"], "/nowhere.txt"),
        (["--backbone", "scratch"], "starts from one of --weights and --backbone"),
    ],
)
def test_bad_options_are_one_line(sets, capsys, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    _, data, val, weights = sets
    assert (
        cli.main(
            ["train", "--weights", str(weights), "--data", str(data), "--val", str(val), "--threads", "1", *options]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("start", [["--transfer", "demo"], ["--backbone", "scratch"]])
def test_a_backbone_that_knows_nothing_yet_is_not_frozen(sets, capsys, start):
    assert cli.main(["train", "--phi", "0", "--data", str(sets[1]), "--freeze", "backbone", *start]) == 2
    assert "leave it out with --transfer and --backbone scratch" in capsys.readouterr().err


def test_a_training_is_not_written_over(sets, capsys, tmp_path):
    """Neither its state nor its checkpoint, which may be what the new one starts from."""
    _, data, val, weights = sets
    command = ["train", "--data", str(data), "--val", str(val), "--threads", "1", "--out", str(tmp_path / "out")]
    assert cli.main([*command, "--weights", str(weights), "--epochs", "0"]) == 0
    best = tmp_path / "out/best.safetensors"
    before = best.read_bytes()
    assert cli.main([*command, "--weights", str(best), "--epochs", "1"]) == 2
    assert "best.safetensors is there already, of another training" in capsys.readouterr().err
    assert best.read_bytes() == before


def test_a_picture_that_another_process_cannot_read_is_one_line(sets, tmp_path, capsys, monkeypatch):
    """It is gone after the labels were looked at."""
    gone = write_coco(tmp_path, "gone", 4, 0)
    (tmp_path / "gone/002.png").unlink()
    monkeypatch.setattr(training, "check", lambda request: Preflight([], []))
    command = ["train", "--weights", str(sets[3]), "--data", str(gone), "--val", str(sets[2]), "--threads", "1"]
    assert cli.main([*command, "--epochs", "1", "--workers", "1", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "gone/002.png" in error.splitlines()[-1]
    assert "Traceback" not in error
