"""Files are written whole or not at all, through links and into pipes, and errors say what is not allowed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from media import write_fake_model

from edgedet.cli import main
from edgedet.engines.base import open_engine
from edgedet.errors import ArtifactError, InputError
from edgedet.files import (
    atomic_path,
    cache_folder,
    check_folder,
    check_outputs,
    check_writable,
    make_folder,
    sha256_of,
    write_json,
)

FIGURES = {"fps": 30}
LINE = '{"fps": 30}\n'


def test_a_link_stays_and_the_file_that_it_names_is_replaced(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    file, link = tmp_path / "disk" / "real.json", tmp_path / "link.json"
    file.write_text("old")
    link.symlink_to(file)
    write_json(str(link), FIGURES)
    assert link.is_symlink()
    assert file.read_text() == LINE
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real.json"]


def test_a_link_to_a_file_that_is_not_there_yet_makes_it(tmp_path: Path):
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "new" / "real.json")
    write_json(str(link), FIGURES)
    assert link.is_symlink()
    assert (tmp_path / "new" / "real.json").read_text() == LINE


def test_a_pipe_is_written_through(tmp_path: Path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    came: list[str] = []
    reader = threading.Thread(target=lambda: came.append(pipe.read_text()), daemon=True)
    reader.start()
    check_writable(pipe)  # must not be seen by the reader
    write_json(str(pipe), FIGURES)
    reader.join(20)
    assert came == [LINE]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_a_device(tmp_path: Path):
    """A device node as /dev/null, which root would lose by a rename."""
    node = tmp_path / "null"
    try:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        node.write_bytes(b"")
    except PermissionError:
        pytest.skip("this user may make or write no device node")
    write_json(str(node), FIGURES)
    assert stat.S_ISCHR(node.stat().st_mode)
    assert list(tmp_path.iterdir()) == [node]


@pytest.mark.parametrize("into_file", [True, False])
def test_dev_stdout_gets_the_json_behind_what_was_printed(tmp_path: Path, into_file: bool):
    code = (
        "from edgedet.files import write_json; print('before', flush=True);"
        "write_json('/dev/stdout', {'fps': 30}); print('after')"
    )
    out = tmp_path / "out.txt"
    with out.open("wb") as file:
        done = subprocess.run([sys.executable, "-c", code], stdout=file if into_file else subprocess.PIPE, check=True)
    text = out.read_text() if into_file else done.stdout.decode()
    assert text == f"before\n{LINE}after\n"


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After a power cut there is the old file or the whole new one."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"file of {os.fstat(handle).st_size} bytes"
        steps.append(f"sync {kind}")
        fsync(handle)

    def noted_replace(source: Path, target: Path) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    with atomic_path(tmp_path / "model.onnx") as temporary:
        temporary.write_bytes(b"12345")
    assert steps == ["sync file of 5 bytes", "rename", "sync folder"]


def test_a_file_has_the_rights_that_any_new_file_has_and_the_umask_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(mask: int) -> int:
        raise AssertionError("the umask is of the whole process: another thread may write a file meanwhile")

    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", refuse)
        with atomic_path(tmp_path / "a.json") as temporary:
            temporary.write_text("{}")
        (tmp_path / "plain").write_text("{}")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == (tmp_path / "plain").stat().st_mode & 0o777 == 0o640


def test_a_block_that_fails_leaves_nothing(tmp_path: Path):
    def fail() -> None:
        with atomic_path(tmp_path / "a.json") as temporary:
            temporary.write_text("{")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


@contextmanager
def as_nobody():
    """Run the block as a user without rights, where this one has all of them."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


@pytest.fixture
def open_folder():
    """A folder that everybody may enter; pytest's own are for their owner."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_a_model_that_may_not_be_read_is_not_called_damaged(open_folder: Path):
    path = write_fake_model(open_folder / "model.fake")
    path.chmod(0)
    with as_nobody(), pytest.raises(ArtifactError) as raised:
        open_engine(path, threads=1)
    assert str(raised.value) == (
        f"cannot read {path}: Permission denied: allow it by `chmod u+r {path}`, or run as another user."
    )


def test_a_checkpoint_that_may_not_be_read_gives_one_line(open_folder: Path):
    path = open_folder / "my.pth"
    path.write_bytes(b"weights")
    path.chmod(0)
    with as_nobody(), pytest.raises(InputError, match=f"cannot read {path}: Permission denied"):
        sha256_of(path)


def test_a_folder_that_may_not_be_written_gives_advice_that_helps(open_folder: Path):
    open_folder.chmod(0o555)
    with as_nobody(), pytest.raises(InputError) as raised:
        check_writable(open_folder / "new" / "out.json")
    assert str(raised.value) == (
        f"cannot write {open_folder}/new/out.json: Permission denied. Choose a folder that this user may write to."
    )


def test_a_cache_that_may_not_be_used_gives_one_line(open_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(open_folder / "cache"))
    (open_folder / "cache").mkdir(mode=0o000)
    with as_nobody(), pytest.raises(InputError, match=r"cannot write .*: Permission denied. Choose a folder that"):
        make_folder(cache_folder() / "bench")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch) -> Path:
    """A working folder with model.onnx, photos/a.jpg, and link.onnx, which leads to the model."""
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_text("model")
    Path("link.onnx").symlink_to("model.onnx")
    os.link("model.onnx", "same.onnx")
    Path("photos").mkdir()
    Path("photos/a.jpg").write_text("picture")
    return tmp_path


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        ({"--jsonl": "model.onnx"}, "--jsonl model.onnx would overwrite its own input model.onnx"),
        ({"--json": "./photos/../model.onnx"}, "would overwrite its own input model.onnx"),
        ({"--json": "link.onnx"}, "--json link.onnx would overwrite its own input model.onnx"),
        ({"--json": "same.onnx"}, "--json same.onnx would overwrite its own input model.onnx"),
        ({"--json": "photos/a.jpg"}, "--json photos/a.jpg would overwrite its own input .*photos/a.jpg"),
        ({"--save": "photos"}, "--save photos would overwrite its own input photos"),
        ({"--json": "x.json", "--html": "./x.json"}, r"--json and --html name the same file \./x.json"),
        ({"--json": "model.onnx/x.json"}, "cannot write model.onnx/x.json"),
    ],
)
def test_an_output_over_an_input_or_another_output_is_refused(desk: Path, outputs: dict, complaint: str):
    before = {path: path.read_text() for path in desk.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=complaint):
        check_outputs(outputs, ["model.onnx", "photos", "rtsp://camera/1"])
    assert {path: path.read_text() for path in desk.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", ["export", "train", "sweep", "label"])
def test_a_folder_that_cannot_be_made_is_said_before_the_work(command: str, desk: Path, capsys):
    """A file stands where a folder is wanted; nothing is read, and nothing made."""
    needs = {"train": ["--data", "photos"], "sweep": ["--data", "photos", "--weights", "demo"], "label": ["photos"]}
    assert main([command, *needs.get(command, []), "--out", "model.onnx/new/er"]) == 2
    assert capsys.readouterr().err.startswith("edgedet: cannot write model.onnx/new/er: Not a directory.")
    assert sorted(path.name for path in desk.iterdir()) == ["link.onnx", "model.onnx", "photos", "same.onnx"]
    check_folder("to/be/made")
    assert not Path("to").exists()


def test_outputs_of_their_own_stdout_and_devices_are_let_through(desk: Path):
    outputs = {"--json": "-", "--jsonl": "photos/new.jsonl", "--html": os.devnull, "--picture": os.devnull, "--o": None}
    check_outputs(outputs, ["model.onnx", "photos"])
    assert sorted(path.name for path in Path("photos").iterdir()) == ["a.jpg"]
