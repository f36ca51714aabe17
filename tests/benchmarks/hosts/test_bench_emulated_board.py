"""`edgedet bench --host` on an emulated Cortex-A76 behind a real sshd: the whole road to a board of another processor.

qemu emulates the processor alone, on this machine's kernel; its times are no board's.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from sshd import SSHD, make_key, ssh_server, write_client_config

from edgedet import cli, demo
from edgedet.files import sha256_of

PYTHON = Path(__file__).parents[3] / ".venv/aarch64/python"
MAKE_IT = "scripts/check_aarch64.py --keep .venv/aarch64"  # as .ci/run does
FAST = ("--threads", "1", "--runs", "2", "--seconds", "0", "--warmup", "0")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """In hosts.yaml: a Raspberry Pi 5's processor, emulated, and this machine."""
    pytest.importorskip("yaml", reason="hosts.yaml is read by PyYAML (edgedet[bench])")
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH's client and server (openssh-server)")
    if not PYTHON.is_file():
        pytest.skip(f"needs an emulated aarch64 system, which {MAKE_IT} makes")
    monkeypatch.chdir(tmp_path)
    pythons = {"emulated": PYTHON, "here": sys.executable}
    key = make_key(tmp_path / "key")
    with ExitStack() as held:
        ports = {
            name: held.enter_context(ssh_server(tmp_path / name, key, {"CPU": "cortex-a76"})).port for name in pythons
        }
        write_client_config(tmp_path / "ssh.conf", key, ports)
        hosts = [f"  {name}: {{python: {python}}}" for name, python in pythons.items()]
        Path("hosts.yaml").write_text("\n".join(["ssh_config: ssh.conf", "hosts:", *hosts]) + "\n")
        yield tmp_path


@pytest.mark.slow
def test_an_emulated_board_and_this_machine_are_measured_and_the_record_says_which_is_emulated(desk, capsys):
    pytest.importorskip("ai_edge_litert", reason="the demo's INT8 file is run by LiteRT")
    command = ["bench", "--model", str(demo.INT8), "--host", "emulated", "here", *FAST]
    assert cli.main([*command, "--json", "boards.json", "--html", "boards.html"]) == 0
    out, err = capsys.readouterr()
    assert f"emulated: sending {demo.INT8.name}" in err
    table = [line.split()[0] for line in out.splitlines() if line.split()[1:2] == [demo.INT8.name[-33:]]]
    assert table == ["emulated", "here"]
    emulated, here = (item["result"] for item in json.loads(Path("boards.json").read_text())["hosts"])
    assert (emulated["machine"], emulated["cpu"]) == ("aarch64", "Cortex-A76")
    assert here["machine"] == os.uname().machine
    for result in (emulated, here):
        (row,) = result["models"]
        assert row["model_sha256"] == sha256_of(demo.INT8)
        assert row["n"] >= 2
    says = "qemu-aarch64-static emulates the processor: these times are not a board's"
    assert emulated["conditions"]["emulator"] == "qemu-aarch64-static"
    assert emulated["conditions"]["warnings"][0] == says
    assert here["conditions"]["emulator"] is None
    assert out.count(says) == Path("boards.html").read_text().count(says.replace("'", "&#x27;")) == 1
    capsys.readouterr()
    assert cli.main([*command, "--json"]) == 0
    assert "sending" not in capsys.readouterr().err  # code and model are kept there
