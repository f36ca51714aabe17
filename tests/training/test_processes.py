"""Several processes train together as one with larger batches; a failure is one line."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from training_sets import tiny_checkpoint, write_coco
from two_processes import train_some_steps
from waiting import wait_until

from edgedet.export.checkpoints.checkpoint import load_checkpoint
from edgedet.training.processes import SharedBatchNorm2d, share_norms


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(arguments: list[str], rank: int = 0, count: int = 1, port: int = 0, log: Path | None = None):
    """Start `edgedet train` as torchrun does; what it prints goes to a file, which never fills up."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    if count > 1:
        env |= {"WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with open(log or os.devnull, "wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "edgedet", "train", *arguments], env=env, stdout=out, stderr=subprocess.STDOUT
        )


@pytest.fixture
def arguments(tmp_path):
    data, val = write_coco(tmp_path, "train", 8, 0), write_coco(tmp_path, "val", 2, 1)
    weights = tiny_checkpoint(tmp_path / "t.safetensors")
    common = ["--weights", weights, "--data", data, "--val", val, "--threads", "1", "--device", "cpu"]
    return list(map(str, common))


@pytest.mark.slow
def test_with_shared_norms_two_processes_have_the_gradients_of_one(tmp_path):
    """In float64, for in float32 BatchNorm over four pictures of one cell lets rounding grow a hundredfold a step."""
    torch.multiprocessing.spawn(train_some_steps, (1, str(tmp_path)), 1)
    torch.multiprocessing.spawn(train_some_steps, (2, str(tmp_path)), 2)
    one, two = (torch.load(tmp_path / f"{count}.pt", weights_only=True) for count in (1, 2))
    for gradients, others in zip(one["gradients"], two["gradients"], strict=True):
        largest = max(float(value.abs().max()) for value in gradients.values())
        for name, value in gradients.items():
            assert float((others[name] - value).abs().max()) < 1e-8 * largest, name
    for name, value in one["state"].items():
        torch.testing.assert_close(two["state"][name], value, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(arguments, tmp_path):
    """Three epochs of two steps: losses and weights differ by rounding, a thousandth of their size at most."""
    more = ["--freeze", "norms", "--epochs", "3", "--optimizer", "sgd"]
    one = start([*arguments, *more, "--batch", "4", "--out", str(tmp_path / "one")])
    half = [*arguments, *more, "--batch", "2", "--out", str(tmp_path / "two")]
    port = free_port()
    two = [start(half, rank, 2, port, tmp_path / f"{rank}.log") for rank in (0, 1)]
    codes = [process.wait() for process in (one, *two)]
    assert codes == [0, 0, 0], (tmp_path / "0.log").read_text()
    tables = [(tmp_path / name / "results.csv").read_text().splitlines() for name in ("one", "two")]
    losses = [[float(line.split(",")[2]) for line in table[1:]] for table in tables]
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    states = [load_checkpoint(tmp_path / name / "last.safetensors").state for name in ("one", "two")]
    for name, value in states[0].items():
        largest = float(value.abs().max())
        assert float((states[1][name] - value).abs().max()) < 1e-3 * largest + 1e-5, name
    assert "epoch" not in (tmp_path / "1.log").read_text()


@pytest.mark.slow
def test_a_process_that_loses_another_ends_with_one_line(arguments, tmp_path):
    port, out = free_port(), tmp_path / "out"
    both = [
        start(
            [*arguments, "--epochs", "10000", "--batch", "2", "--out", str(out)],
            rank,
            2,
            port,
            tmp_path / f"{rank}.log",
        )
        for rank in (0, 1)
    ]
    try:
        wait_until(lambda: (out / "results.csv").exists() or both[0].poll() is not None)
        both[1].send_signal(signal.SIGKILL)
        assert both[0].wait() == 2
    finally:
        for process in both:
            process.kill()
            process.wait()
    last = (tmp_path / "0.log").read_text().strip().splitlines()[-1]
    assert "edgedet: process 0 of 2 lost another one" in last
    assert "--resume" in last
    assert "Traceback" not in (tmp_path / "0.log").read_text()
    assert torch.load(out / "state.pt", weights_only=True)["epoch"] >= 1


def test_shared_norms_are_plain_ones_in_one_process(tmp_path):
    """In a group of one, forward, gradient and statistics equal BatchNorm2d's."""
    import torch.distributed as dist

    torch.manual_seed(0)
    plain = torch.nn.BatchNorm2d(3)
    torch.nn.init.uniform_(plain.weight)
    shared = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    shared[0].load_state_dict(plain.state_dict())
    share_norms(shared)
    assert type(shared[0]) is SharedBatchNorm2d
    x = torch.randn(4, 3, 5, 6, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        outputs = plain(x), shared(y)
        for output in outputs:
            (output * torch.arange(6)).sin().sum().backward()
    finally:
        dist.destroy_process_group()
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(y.grad, x.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shared[0].running_var, plain.running_var)
    torch.testing.assert_close(shared[0].running_mean, plain.running_mean)
