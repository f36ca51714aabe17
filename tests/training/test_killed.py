"""A training that SIGKILL ends in the middle of an epoch goes on by `--resume` as if nothing had been."""

import csv
import os
import signal
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ai_edge_litert")
from training_sets import tiny_checkpoint, write_coco
from waiting import wait_until

EPOCHS, STEPS = 3, 3
# The command itself, but that it saves its state after each step, not after five minutes.
SAVES_OFTEN = """
import sys
from edgedet import cli
from edgedet.training import fit
fit.SAVE_EVERY_S = 0.0
sys.exit(cli.main())
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    data, val = write_coco(folder, "train", 4 * STEPS, 0), write_coco(folder, "val", 2, 1)
    weights = tiny_checkpoint(folder / "t.safetensors")
    options = ["--weights", weights, "--data", data, "--val", val, "--batch", 4, "--threads", 1, "--device", "cpu"]
    return [sys.executable, "-c", SAVES_OFTEN, "train", *map(str, options)]


def start(arguments, log):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(log, "wb") as out:
        return subprocess.Popen(arguments, env=env, stdout=out, stderr=subprocess.STDOUT)


def progress_of(path):
    """(epoch, step) that a state goes on with; None where there is no state yet."""
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True)
    return state["epoch"], state["step"]


def train_killed(arguments, state, at, end, log):
    """Kill the training once its state is at ``at`` or later, and finish it by --resume; return where it was killed."""
    process = start(arguments, log)
    try:
        wait_until(lambda: process.poll() is not None or (progress_of(state) or (0, 0)) >= at)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, log.read_text()
    finally:
        process.kill()
        process.wait()
    killed_at = progress_of(state)
    assert at <= killed_at < end
    assert start([*arguments, "--resume"], log).wait() == 0, log.read_text()
    return killed_at


def assert_same_training(state, expected):
    """The weights, their average and the optimiser's moments are those of the other state."""
    ours, theirs = (torch.load(path, weights_only=True)["parts"] for path in (state, expected))
    for part in ("model", "averaged"):
        for name, value in theirs[part].items():
            torch.testing.assert_close(ours[part][name], value, rtol=1e-5, atol=1e-6, msg=f"{part} {name}")
    for number, moments in theirs["optimiser"]["state"].items():
        for name, value in moments.items():
            torch.testing.assert_close(ours["optimiser"]["state"][number][name], value, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_killed_within_an_epoch(command, tmp_path):
    arguments = [*command, "--epochs", str(EPOCHS)]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start([*arguments, "--out", str(whole)], tmp_path / "whole.log").wait() == 0
    log = tmp_path / "cut.log"
    epoch, _ = train_killed([*arguments, "--out", str(cut)], cut / "state.pt", (1, 1), (EPOCHS, 0), log)
    assert f"epoch {epoch + 1}/{EPOCHS}" in log.read_text()
    assert f"epoch {epoch}/{EPOCHS}" not in log.read_text()  # what was done is not done again
    assert_same_training(cut / "state.pt", whole / "state.pt")
    tables = [list(csv.DictReader((out / "results.csv").read_text().splitlines())) for out in (cut, whole)]
    for row, expected in zip(*tables, strict=True):
        for name in ("epoch", "rate", "loss", "AP"):
            assert float(row[name]) == pytest.approx(float(expected[name]), rel=1e-5, abs=1e-9)


@pytest.mark.slow
def test_killed_while_it_trains_for_int8(command, tmp_path):
    """The calibration is made anew, of the same pictures; so the file has the same bytes but for what it says of AP."""
    arguments = [*command, "--epochs", "0", "--int8", "tflite", "--int8-epochs", "1", "--force"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start([*arguments, "--out", str(whole)], tmp_path / "whole.log").wait() == 0
    state = cut / "int8" / "state.pt"
    train_killed([*arguments, "--out", str(cut)], state, (0, 1), (1, 0), tmp_path / "cut.log")
    assert_same_training(state, whole / "int8/state.pt")
    files = [(out / "int8" / f"{out.name}_int8.tflite").stat().st_size for out in (cut, whole)]
    assert abs(files[0] - files[1]) < 64
