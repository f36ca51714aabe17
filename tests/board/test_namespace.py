"""Where the script that makes a board's image is killed, what it was making ends, too."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

NAMESPACE = Path(__file__).resolve().parents[2] / "scripts/virtual_board/namespace.py"
COMMAND = [sys.executable, str(NAMESPACE), "-"]


@pytest.fixture(scope="module", autouse=True)
def namespaces():
    if subprocess.run([*COMMAND, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make namespaces")


def test_a_command_gives_its_exit_code():
    assert subprocess.run([*COMMAND, "sh", "-c", "exit 7"]).returncode == 7


def test_what_is_made_ends_with_its_script(tmp_path):
    """The file grows while the command runs; a shell waits for it, as the script does, and is killed."""
    file = tmp_path / "grows"
    command = ["sh", "-c", f"while true; do echo >> {file}; sleep 0.02; done"]
    with subprocess.Popen(["sh", "-c", '"$@"; true', "script", *COMMAND, *command]) as script:
        end = time.monotonic() + 60
        while not file.is_file() and time.monotonic() < end:
            time.sleep(0.02)
        assert file.is_file()
        script.kill()
    sizes = []
    while time.monotonic() < end and (len(sizes) < 2 or sizes[-1] != sizes[-2]):
        sizes.append(file.stat().st_size)
        time.sleep(0.5)
    assert sizes[-1] == sizes[-2]
