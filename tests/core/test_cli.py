"""The entry point: closed and full streams, locales without letters, signals, and what it imports."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from media import META

from edgedet.cli import COMMANDS, main
from edgedet.engines.fake import save_fake
from edgedet.errors import with_own_pip
from edgedet.files import write_json

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
# A command that writes half a file and waits.
WAITING = """
import argparse, sys, time, types
from edgedet import cli
from edgedet.files import atomic_path

def run(args):
    with atomic_path("figures.json") as temporary:
        temporary.write_text("half")
        print("ready", flush=True)
        time.sleep(600)

sys.modules["waiting"] = types.SimpleNamespace(
    DESCRIPTION="", EXAMPLE="", add_arguments=lambda parser: None, run=run)
cli.COMMANDS["wait"] = ("waiting", "")
sys.exit(cli.main(["wait"]))
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "", **more}


def edgedet(folder: Path, words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ``edgedet WORDS`` in a shell, which understands redirections."""
    return subprocess.run(
        f"{sys.executable} -m edgedet {words}",
        shell=True,
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model whose second class has a letter beyond ASCII."""
    save_fake(tmp_path / "model.fake", replace(META, class_names=("person", "L\xf6we")), [])
    return tmp_path


@pytest.mark.parametrize("words", ["info model.fake", "info model.fake --json", "--help", "info --help"])
def test_a_full_stdout_is_one_line(folder: Path, words: str) -> None:
    done = edgedet(folder, f"{words} > /dev/full")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "edgedet: cannot write to stdout: No space left on device."
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["info model.fake", "info model.fake --json", "cameras", "--version"])
def test_a_closed_stdout_is_nobody_who_listens(folder: Path, words: str) -> None:
    done = edgedet(folder, f"{words} >&-")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_stderr_is_nobody_who_listens(folder: Path) -> None:
    done = edgedet(folder, "info nowhere.onnx 2>&-")
    assert (done.returncode, done.stdout) == (2, "")


def test_class_names_are_printed_in_a_locale_without_their_letters(folder: Path) -> None:
    done = edgedet(folder, "info model.fake", **ASCII)
    assert done.returncode == 0, done.stderr
    assert "person, L\\xf6we" in done.stdout


def test_file_names_that_the_locale_does_not_have_are_one_line(folder: Path) -> None:
    (folder / "model.fake").rename(folder / "L\xf6we.fake")
    done = edgedet(folder, "info L\xf6we.fake", **ASCII)
    assert (done.returncode, done.stdout) == (2, "")
    assert "does not have: set PYTHONUTF8=1, or LC_ALL=C.UTF-8." in done.stderr
    assert done.stderr.count("\n") == 1
    assert edgedet(folder, "info L\xf6we.fake").returncode == 0


@contextmanager
def waiting_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold a process that has written half a file in the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITING],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_command_in_one_line_and_leaves_nothing(tmp_path: Path, number: int, code: int) -> None:
    with waiting_process(tmp_path) as process:
        assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
        process.send_signal(number)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (code, "edgedet: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_output_and_a_living_ones_stays(tmp_path: Path) -> None:
    with waiting_process(tmp_path) as killed:
        (left,) = tmp_path.iterdir()
        killed.kill()
        killed.wait()
    (tmp_path / ".figures-0123abcd.json").write_text("somebody's own hidden file")
    with waiting_process(tmp_path):
        assert not left.exists()
        before = {path.name for path in tmp_path.iterdir()}
        write_json(str(tmp_path / "other.json"), {})
        assert {path.name for path in tmp_path.iterdir()} == {*before, "other.json"}
    assert len(before) == 2


def test_without_a_command_the_most_useful_ones_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr().err
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("  edgedet ")] == ["run", "run", "export"]
    assert "`edgedet --help` lists all commands" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_which_of_its_options_name_files(name: str) -> None:
    """By INPUTS and OUTPUTS ``main`` refuses an output that is an input; folders are neither."""
    module = import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    files = {
        action.dest
        for action in parser._actions
        if action.metavar in ("FILE", "SRC", "MODEL") or (action.type is Path and action.metavar != "DIR")
    }
    named = {*getattr(module, "INPUTS", ()), *getattr(module, "OUTPUTS", ())}
    assert files - named <= {"model_there"}  # a file of another machine


def test_an_output_that_is_an_input_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "my.pth"
    weights.write_bytes(b"weights")
    assert main(["sweep", "--weights", str(weights), "--data", "labels.json", "--json", str(weights)]) == 2
    assert "--json" in capsys.readouterr().err
    assert weights.read_bytes() == b"weights"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from edgedet.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(*sorted({'numpy', 'cv2', 'torch', 'onnx', 'onnxruntime'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.stderr == "\n"


def test_advice_to_install_names_the_pip_of_an_environment_that_is_not_active(tmp_path: Path, monkeypatch):
    programs = tmp_path / "my env/bin"
    programs.mkdir(parents=True)
    (programs / "pip").write_text("#!/bin/sh\n")
    (programs / "pip").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    advice = "pip uninstall -y opencv-python; sudo apt install python3-pip; pip install 'edgedet[web]'"
    own = f"'{programs}/pip'"
    expected = f"{own} uninstall -y opencv-python; sudo apt install python3-pip; {own} install 'edgedet[web]'"
    assert with_own_pip(advice) == expected
    monkeypatch.setenv("HOME", str(tmp_path))
    assert with_own_pip("pip install av") == "~/'my env/bin/pip' install av"
    monkeypatch.setenv("PATH", str(programs))
    assert with_own_pip(advice) == advice
