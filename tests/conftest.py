"""Fixtures that several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from media import SMALL_DISK_BYTES


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of photographs, clips and checkpoints beside the repository; no part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (clips, photographs and checkpoints), which is not part of the repository")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of SMALL_DISK_BYTES, to fill up."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk needs root and the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
