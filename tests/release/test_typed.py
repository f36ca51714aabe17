"""What a user's type checker sees: the installed wheel, in an environment beside numpy alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from installs import build, copy_sources, make_bare_venv, run

pytestmark = pytest.mark.filterwarnings("default")  # warnings of the build tools are not ours

PROGRAM = """
import numpy as np

import edgedet
from edgedet import Detector
from edgedet.types import Detections


def count(path: str, picture: np.ndarray) -> int:
    detections: Detections = Detector(path)(picture)
    return len(detections)


def count_all(path: str) -> int:
    return sum(len(result.detections) for result in edgedet.stream("street.mp4", path))


WRONG: str = Detector("model.onnx")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment that holds the wheel."""
    folder = tmp_path_factory.mktemp("typed")
    wheel = build(copy_sources(folder / "tree", links=False), "wheel", folder / "out")
    return make_bare_venv(folder / "venv", wheel) / "python"


def test_a_users_type_checker_reads_our_types(python: Path, tmp_path: Path):
    """mypy --strict finds the one mistake of the program, so it sees types; without py.typed it would see Any."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = run([sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), str(program)], tmp_path)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout
    assert 'has type "Detector", variable has type "str"' in errors[0]
