"""The script that completes edgedet's commands, in a real bash."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgedet.cli import COMMANDS, main

pytest.importorskip("shtab", reason="needs shtab (pip install 'edgedet[completion]')")
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["--print-completion", "bash"]) == 0
    path = tmp_path / "edgedet.bash"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return path


def completed(script: Path, *words: str) -> list[str]:
    """Return what TAB offers behind ``edgedet WORDS``, the last of which is incomplete."""
    line = (
        f"source {script}; cd {script.parent}; COMP_WORDS=(edgedet {' '.join(words)}); COMP_CWORD={len(words)}; "
        "_shtab_edgedet; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    return done.stdout.split()


@needs_bash
def test_tab_offers_commands_options_and_files(script: Path):
    assert completed(script, "ex") == ["export"]
    assert completed(script, "eval", "--or") == ["--original-nms"]
    assert completed(script, "info", "edgedet.b") == ["edgedet.bash"]
    assert completed(script, "eval", "--data", "edgedet.b") == ["edgedet.bash"]


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_the_scripts_of_other_shells_name_every_command(shell: str, capsys: pytest.CaptureFixture[str]):
    assert main(["--print-completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


def test_another_shell_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]):
    assert main(["--print-completion", "ksh"]) == 2
    assert capsys.readouterr().err == "edgedet: --print-completion takes bash, zsh, fish, tcsh; got 'ksh'.\n"
