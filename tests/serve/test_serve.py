"""`edgedet serve --zmq` as a command: who may connect, options that are refused, and its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("zmq", reason="needs the serve extra (pyzmq)")
from frigate_client import BOXES, FrigateClient, meta

from edgedet.cli import main
from edgedet.engines.fake import save_fake
from edgedet.errors import InputError
from edgedet.serve.frigate_zmq import check_endpoint


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://192.168.1.2:5555", "tcp://:5555"])
def test_other_machines_only_where_that_was_asked(endpoint: str) -> None:
    with pytest.raises(InputError, match="--remote"):
        check_endpoint(endpoint, remote=False)
    check_endpoint(endpoint, remote=True)
    check_endpoint("tcp://127.0.0.1:5555", remote=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs --zmq ENDPOINT"),
        (["--zmq", "http://x"], "--zmq takes ipc://PATH"),
        (["--zmq", "tcp://127.0.0.1"], "--zmq takes ipc://PATH"),
        (["--zmq", "ipc:///proc/nowhere/socket"], "no folder /proc/nowhere"),
        (["--zmq", "ipc:///tmp/socket", "--score", "2"], "score"),
        (["--zmq", "ipc:///tmp/socket", "--timeout", "-1"], "--timeout takes milliseconds, and 0 for no limit; got -1"),
        (["--zmq", "ipc:///tmp/socket", "--batch", "2"], "--batch wants 1 to 1 pictures for this model; got 2"),
    ],
)
def test_bad_options_give_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_fake(tmp_path / "model.fake", meta(), BOXES)
    assert main(["serve", str(tmp_path / "model.fake"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    save_fake(tmp_path / "model.fake", meta(), BOXES)
    command = [sys.executable, "-m", "edgedet", "serve", str(tmp_path / "model.fake"), "--zmq", "tcp://127.0.0.1:*"]
    command[-1] = f"ipc://{tmp_path}/socket"
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert "width 128, height 128" in server.stdout.readline()
        client = FrigateClient(f"ipc://{tmp_path}/socket")
        assert client.detect(np.zeros((1, 128, 128, 3), np.uint8))[0, 1] > 0.8
        client.close()
        server.terminate()
        out, _ = server.communicate(timeout=60)
        assert server.returncode == 0
        assert out.startswith("served 1 pictures")
    finally:
        server.kill()
        server.communicate()
