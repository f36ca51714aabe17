"""`edgedet bench --host`: two real SSH servers on loopback stand for two boards; links are cut, keys are wrong."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from faults import fault_proxy
from media import META, write_clip, write_fake_model
from sshd import SSHD, make_key, ssh_server, write_client_config
from waiting import wait_until

from edgedet import cli
from edgedet.benchmarks.hosts import far_side, session, ssh
from edgedet.benchmarks.hosts.bench_hosts import bench_hosts
from edgedet.benchmarks.hosts.host_list import Host
from edgedet.benchmarks.hosts.session import Plan
from edgedet.engines.fake import save_fake

pytest.importorskip("cv2", reason="edgedet bench resizes by OpenCV")
pytest.importorskip("yaml", reason="hosts.yaml is read by PyYAML (edgedet[bench])")
needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None, reason="needs OpenSSH's client and server (openssh-server)"
)
FAST = ("--threads", "1", "--runs", "2", "--seconds", "0", "--warmup", "0")
LONG = ("--threads", "1", "--runs", "2", "--seconds", "600", "--warmup", "0")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Two boards, board1 and nano2, and a hosts.yaml: with them as group desk, a closed port and a wrong key."""
    folder = tmp_path_factory.mktemp("desk")
    key, stranger = make_key(folder / "key"), make_key(folder / "stranger")
    with ExitStack() as held:
        boards = {name: held.enter_context(ssh_server(folder / name, key)) for name in ("board1", "nano2")}
        ports = {name: board.port for name, board in boards.items()}
        write_client_config(folder / "ssh.conf", key, {**ports, "gone": 1})
        write_client_config(folder / "stranger.conf", stranger, {"locked": boards["board1"].port})
        lines = ["ssh_config: ssh.conf", "hosts:"]
        lines += [f"  {name}: {{python: {sys.executable}}}" for name in ports]
        lines += ["groups:", "  desk: [board1, nano2]"]
        (folder / "hosts.yaml").write_text("\n".join(lines) + "\n")
        write_fake_model(folder / "a.fake")
        write_clip(folder / "clip.avi", frames=2)
        yield folder


@pytest.fixture
def behind_proxy(desk):
    """A board whose link can be cut: (Host, proxy)."""
    port = int((desk / "board1" / "sshd_config").read_text().split("127.0.0.1:")[1].split()[0])
    with fault_proxy(port) as proxy:
        config = write_client_config(desk / "proxy.conf", desk / "key", {"far": proxy.port})
        yield Host("far", "far", sys.executable, config), proxy


@pytest.fixture
def quick_alarm(monkeypatch):
    """A link that is cut is seen within a second on both sides."""
    monkeypatch.setattr(ssh, "ALIVE_EVERY_S", 1)
    monkeypatch.setattr(ssh, "ALIVE_MISSED", 1)
    monkeypatch.setattr(session, "BEAT_S", 0.1)
    source = session._SOURCE
    assert "QUIET_S = 20.0" in source
    monkeypatch.setattr(session, "_SOURCE", source.replace("QUIET_S = 20.0", "QUIET_S = 1.0"))


def board(desk, name="board1", python=sys.executable):
    return Host(name, name, python, desk / "ssh.conf")


def plan(desk, options=FAST):
    return Plan((desk / "a.fake",), options=options, source=desk / "clip.avi")


def runs_of(desk, name):
    """The folders of benchmarks that still run on a board."""
    return list((desk / name / "cache/edgedet/hosts").glob("run-*"))


@needs_sshd
def test_a_desk_of_boards_is_measured_and_gives_one_table_and_one_page(desk, capsys, monkeypatch):
    monkeypatch.chdir(desk)
    save_fake("b.fake", META, [])
    command = ["bench", "--model", "b.fake", "--source", "clip.avi", "--host", "desk", *FAST]
    assert cli.main([*command, "--html", "desk.html", "--json", "desk.json"]) == 0
    out, err = capsys.readouterr()
    assert "board1: sending b.fake" in err
    assert "nano2: sending b.fake" in err
    rows = [line.split()[:3] for line in out.splitlines() if "b.fake" in line]
    assert rows == [["board1", "b.fake", "1"], ["nano2", "b.fake", "1"]]
    written = json.loads(Path("desk.json").read_text())
    assert [item["host"] for item in written["hosts"]] == ["board1", "nano2"]
    for item in written["hosts"]:
        (row,) = item["result"]["models"]
        assert row["model"] == "b.fake"
        assert row["n"] >= 2
        assert item["result"]["frames"] == 2
    page = Path("desk.html").read_text()
    assert page.count("<h2>") == 2
    assert "nano2: b.fake, 1 thread" in page
    assert cli.main([*command[: -len(FAST) - 1], "board1", *FAST, "--json"]) == 0
    assert "sending" not in capsys.readouterr().err  # everything is there already
    assert not runs_of(desk, "board1")


@needs_sshd
def test_boards_that_fail_are_named_and_the_others_go_on(desk):
    hosts = [
        board(desk, "gone"),
        Host("locked", "locked", sys.executable, desk / "stranger.conf"),
        board(desk, python="/nowhere/python"),
        board(desk, "nano2"),
    ]
    gone, locked, without, good = bench_hosts(hosts, plan(desk), lambda line: None)
    assert "connection failed" in gone.failure
    assert "Connection refused" in gone.failure
    assert "Permission denied" in locked.failure
    assert "/nowhere/python" in without.failure
    assert good.failure is None
    assert len(good.result.models) == 1


@needs_sshd
def test_a_file_that_lies_there_already_is_measured_where_it_lies(desk, tmp_path):
    model = write_fake_model(tmp_path / "built.fake")
    (item,) = bench_hosts([board(desk)], Plan((), (str(model),), FAST, desk / "clip.avi"), lambda line: None)
    assert [row.model for row in item.result.models] == [str(model)]
    (item,) = bench_hosts([board(desk)], Plan((), ("/nowhere/a.fake",), FAST, desk / "clip.avi"), lambda line: None)
    assert "/nowhere/a.fake" in item.failure


def test_a_relative_path_of_a_file_there_begins_at_the_home_there():
    paths = ("models/a.engine", "~/a.engine", "/opt/a.engine")
    assert [*map(session.from_home, paths)] == ["~/models/a.engine", "~/a.engine", "/opt/a.engine"]


def test_folders_of_runs_that_a_power_cut_left_are_removed_and_running_ones_stay(tmp_path, monkeypatch):
    """Run 1 is old and nobody holds its lock, run 2 runs since long, run 3 has just begun."""
    monkeypatch.setattr(far_side, "ROOT", str(tmp_path))
    for number in "123":
        (tmp_path / f"run-{number}").mkdir()
        (tmp_path / f"run-{number}/lock").touch()
    (tmp_path / "files").mkdir()
    for name in ("run-1", "run-2", "files"):
        os.utime(tmp_path / name, (1e9, 1e9))
    with open(tmp_path / "run-2/lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        far_side.remove_stale_runs()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "run-2", "run-3"]


@needs_sshd
def test_the_same_bytes_under_two_names_are_two_files(desk, tmp_path):
    first, second = write_fake_model(tmp_path / "first.fake"), tmp_path / "second.fake"
    shutil.copy(first, second)
    for models in ((first,), (first, second)):
        (item,) = bench_hosts([board(desk)], Plan(models, (), FAST, desk / "clip.avi"), lambda line: None)
        assert item.failure is None
        assert [row.model for row in item.result.models] == [str(model) for model in models]


@needs_sshd
def test_models_that_fail_on_a_board_are_said_by_the_exit_code(desk, capsys, monkeypatch):
    """As of `edgedet bench` on this machine: 1, and the others are in the table."""
    monkeypatch.chdir(desk)
    command = ["bench", "--model", "a.fake", "--model-there", "/nowhere/b.fake", "--source", "clip.avi"]
    assert cli.main([*command, "--hosts", "hosts.yaml", "--host", "board1", *FAST]) == 1
    out, err = capsys.readouterr()
    assert "a.fake" in out
    assert "/nowhere/b.fake" in err.splitlines()[-1]


@needs_sshd
def test_a_shell_that_greets_is_no_matter(desk, tmp_path):
    """A line that ~/.bashrc prints comes before all that programs print."""
    greeting = tmp_path / "python"
    greeting.write_text(f'#!/bin/sh\necho Welcome to board1\nexec {sys.executable} "$@"\n')
    greeting.chmod(0o755)
    (item,) = bench_hosts([board(desk, python=str(greeting))], plan(desk), lambda line: None)
    assert item.failure is None
    greeting.write_text("#!/bin/sh\necho Welcome to board1\n")
    (item,) = bench_hosts([board(desk, python=str(greeting))], plan(desk), lambda line: None)
    assert "Welcome to board1" in item.failure


@needs_sshd
def test_what_arrives_damaged_is_not_kept(desk, monkeypatch):
    """The file has changed between its hash and its sending."""
    hashed = session.sha256_of
    monkeypatch.setattr(session, "sha256_of", lambda path: "0" * 64 if path.name == "a.fake" else hashed(path))
    (item,) = bench_hosts([board(desk)], plan(desk), lambda line: None)
    assert item.failure == "a.fake arrived with another SHA-256 than it was sent with: try again"
    assert not list((desk / "board1/cache/edgedet/hosts/files" / ("0" * 64)).iterdir())


@needs_sshd
def test_a_full_disk_is_said_before_anything_is_sent(desk, small_disk, tmp_path):
    lines = []
    with ssh_server(tmp_path / "full", desk / "key", {"XDG_CACHE_HOME": str(small_disk)}) as server:
        config = write_client_config(tmp_path / "ssh.conf", desk / "key", {"full": server.port})
        (item,) = bench_hosts([Host("full", "full", sys.executable, config)], plan(desk), lines.append)
    assert item.failure.startswith("its disk has 1")
    assert not any("sending" in line for line in lines)


@needs_sshd
def test_a_python_too_old_is_said(desk):
    olds = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.[67].*/bin/python"))
    if not olds:
        pytest.skip("needs Python 3.6 or 3.7 in pyenv")
    (item,) = bench_hosts([board(desk, python=str(olds[0]))], plan(desk), lambda line: None)
    assert item.failure.startswith("its Python is 3.")
    assert "edgedet needs 3.8 or newer" in item.failure


@needs_sshd
@pytest.mark.parametrize("mode", ["refuse", "freeze"])
def test_a_link_that_is_cut_is_said_and_nothing_runs_on(desk, behind_proxy, quick_alarm, mode):
    """Hung up, or silent as a pulled cable: both sides end by themselves, and the other board has its result."""
    host, proxy = behind_proxy

    def cut_when_it_measures():
        wait_until(lambda: runs_of(desk, "board1"))
        proxy.mode = mode

    cutter = threading.Thread(target=cut_when_it_measures)
    cutter.start()
    (item,) = bench_hosts([host], plan(desk, LONG), lambda line: None)
    cutter.join()
    assert "connection" in item.failure.lower() or "timeout" in item.failure.lower()
    wait_until(lambda: not runs_of(desk, "board1"))


@needs_sshd
def test_ctrl_c_ends_the_benchmarks_everywhere(desk):
    command = [sys.executable, "-m", "edgedet", "bench", "--model", "a.fake", "--source", "clip.avi", "--host", "desk"]
    run = subprocess.Popen([*command, *LONG], cwd=desk, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (runs_of(desk, "board1") and runs_of(desk, "nano2")) or run.poll() is not None)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate()
    assert run.returncode == 130
    assert "Traceback" not in err
    wait_until(lambda: not runs_of(desk, "board1") and not runs_of(desk, "nano2"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "labels.json"], "--host takes no --data"),
        (["--source", "."], "one image or one video"),
        (["--hosts", "nowhere.yaml"], "nowhere.yaml"),
        (["--model-there", "~/a.xyz"], "a.xyz is no model file"),
    ],
)
def test_what_goes_with_host(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    write_fake_model(Path("a.fake"))
    Path("labels.json").write_text("{}")
    assert cli.main(["bench", "--model", "a.fake", "--host", "board1", *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
