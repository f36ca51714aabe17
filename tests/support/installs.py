"""Build edgedet as a release is built and install it beside numpy alone, without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
HOST_FOLDERS = ("export", "calibration", "benchmarks", "training")
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "edgedet", *HOST_FOLDERS)
HOOKS = {"sdist": "build_sdist", "wheel": "build_wheel", "editable": "build_editable"}

TIMEOUT_S = 3600  # of one command, as a last resort: D0 in INT8 takes minutes, on a busy machine many


def copy_sources(target: Path, links: bool) -> Path:
    """Copy what a release is built from, with or without the links inside edgedet/; return ``target``."""
    target.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_file():
            shutil.copy2(source, target / name)
            continue
        skipped = ["__pycache__", *(HOST_FOLDERS if name == "edgedet" and not links else ())]
        shutil.copytree(source, target / name, symlinks=True, ignore=shutil.ignore_patterns(*skipped))
    return target


def build(tree: Path, hook: str, out: Path) -> Path:
    """Run one hook of the build backend in ``tree``, as pip does; return the file that it wrote in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    code = f"import sys; from setuptools import build_meta; build_meta.{HOOKS[hook]}(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (written,) = out.iterdir()
    return written


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with no input, outside the checkout's reach: PYTHONPATH is removed, a timeout is set."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env.update(environment)
    return subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S
    )


def make_bare_venv(folder: Path, wheel: Path) -> Path:
    """Make a virtual environment of numpy and edgedet alone, and return its folder of programs.

    numpy is the running one, linked in, so nothing is downloaded. pip is told to use no index: it only succeeds where
    numpy is all that edgedet asks for.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    programs = folder / "bin"
    (site,) = folder.glob("lib/python3*/site-packages")
    for part in Path(np.__file__).parents[1].glob("numpy*"):
        if part.name in ("numpy", "numpy.libs") or part.name.endswith((".dist-info", ".egg-info")):
            (site / part.name).symlink_to(part)
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "--isolated", "install", "--no-index"]
    done = run([*pip, str(wheel)], cwd=folder)
    assert done.returncode == 0, done.stderr
    return programs
