"""deploy/update.sh with programs that pretend to be python3 and systemctl: which version runs after each way it can go.

The real ones are used on the virtual board (tests/virtual_board/test_5_update.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from installs import ROOT

PYTHON = """#!/bin/sh
# python3 -m venv --system-site-packages FOLDER
folder=$4
mkdir -p "$folder/bin"
printf '#!/bin/sh\\ncase "$2" in *broken*) exit 1 ;; esac\\n' > "$folder/bin/pip"
printf '#!/bin/sh\\necho clip.mp4\\n' > "$folder/bin/python"
printf '#!/bin/sh\\n[ "$1" = info ] && exec cat "$2"\\n! grep -q damaged "$2"\\n' > "$folder/bin/edgedet"
chmod +x "$folder"/bin/*
"""
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$LOG"
[ "$1" != restart ] || [ ! -e "$LOG.ready" ] || grep -q "$(readlink "$EDGEDET_BASE/current")" "$LOG.ready"
"""

pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock (util-linux)")


class Desk:
    """A folder for versions, and the two programs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.base, self.log = folder, folder / "opt", folder / "log"
        (folder / "bin").mkdir()
        for name, text in (("python3", PYTHON), ("systemctl", SYSTEMCTL)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        for name, text in (
            ("good.whl", "good"),
            ("broken.whl", "broken"),
            ("my.tflite", "model"),
            ("b.tflite", "model"),
        ):
            (folder / name).write_text(text)

    def update(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "EDGEDET_BASE": str(self.base),
            "LOG": str(self.log),
            "EXTRAS": "web",
        }
        command = ["sh", str(ROOT / "deploy/update.sh"), *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    def current(self) -> str:
        return os.readlink(self.base / "current")

    def versions(self) -> list[str]:
        return sorted(path.name for path in self.base.glob("20*"))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_new_version_keeps_the_models_and_one_version_before(desk: Desk):
    versions = []
    for models in (["my.tflite"], [], ["b.tflite"]):
        done = desk.update("good.whl", *models)
        assert done.returncode == 0, done.stdout + done.stderr
        versions.append(desk.current())
    assert desk.versions() == versions[1:]
    assert {path.name for path in (desk.base / "current/models").iterdir()} == {"my.tflite", "b.tflite"}
    assert desk.log.read_text().splitlines().count("restart edgedet") == 3
    assert desk.update("--rollback").returncode == 0
    assert desk.current() == versions[1]


@pytest.mark.parametrize(
    ("wheel", "model", "complaint"),
    [
        ("broken.whl", "model", "pip failed"),
        ("good.whl", "damaged", "b.tflite does not run"),
        ("good.whl", '"verdict": "FAILED"', "b.tflite did not pass the accuracy gate"),
    ],
)
def test_what_does_not_work_is_given_up_and_the_old_version_is_not_touched(desk: Desk, wheel, model, complaint):
    desk.update("good.whl", "my.tflite")
    before, told = desk.current(), desk.log.read_text().count("restart")
    (desk.folder / "b.tflite").write_text(model)
    done = desk.update(wheel, "b.tflite")
    assert done.returncode == 1
    assert complaint in done.stdout
    assert f"{before} runs on" in done.stdout
    assert desk.versions() == [before]
    assert desk.current() == before
    assert desk.log.read_text().count("restart") == told


def test_a_version_that_does_not_become_ready_is_taken_back(desk: Desk):
    desk.update("good.whl")
    before = desk.current()
    Path(f"{desk.log}.ready").write_text(before)
    done = desk.update("good.whl")
    assert done.returncode == 1
    assert "does not become ready" in done.stdout
    assert desk.current() == before
    assert desk.versions() == [before]
    assert desk.log.read_text().splitlines().count("restart edgedet") == 3  # the old one is started again


def test_a_file_that_is_not_there_is_one_line(desk: Desk):
    done = desk.update("missing.whl")
    assert (done.returncode, done.stdout) == (2, "update.sh: there is no file missing.whl\n")
    assert not desk.base.exists()
