"""The emulated aarch64 check: what differs fails it, and what cannot be had is told in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from installs import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from check_aarch64 import NO_PACKAGES, Failed, build_wheel, compare

BOXES = [[{"class": "person", "score": 0.7569, "box_xyxy": [637.59, 199.35, 683.98, 303.57]}]]


def arrays() -> dict[str, np.ndarray]:
    return {"frame 0 class_logits": np.arange(-50, 50, dtype=np.int8)}


def test_equal_results_pass(capsys: pytest.CaptureFixture[str]):
    compare("cortex-a72", (BOXES, arrays()), (BOXES, arrays()))
    assert (
        capsys.readouterr().out == "aarch64: cortex-a72: 100 pixels and raw outputs, and 1 boxes in 1 frames: equal\n"
    )


def test_one_element_that_differs_by_one_fails():
    there = arrays()
    there["frame 0 class_logits"][7] += 1
    with pytest.raises(Failed, match="cortex-a76: 1 of 100 elements of frame 0 class_logits differ"):
        compare("cortex-a76", (BOXES, there), (BOXES, arrays()))


def test_another_type_fails():
    there = {"frame 0 class_logits": arrays()["frame 0 class_logits"].astype(np.float32)}
    with pytest.raises(Failed, match=r"is \(100,\) float32, here \(100,\) int8"):
        compare("cortex-a76", (BOXES, there), (BOXES, arrays()))


def test_a_box_that_differs_in_its_last_digit_fails():
    there = [[{**BOXES[0][0], "score": 0.757}]]
    with pytest.raises(Failed, match="detections differ"):
        compare("cortex-a72", (there, arrays()), (BOXES, arrays()))


def test_a_machine_without_apt_is_told_in_one_line(tmp_path: Path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("mkdir", "dirname"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    done = subprocess.run(
        ["/bin/bash", str(ROOT / "scripts/make_aarch64_env.sh"), str(tmp_path / "env")],
        env={"PATH": str(programs), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (NO_PACKAGES, "cannot be had here: apt-get\n")
    assert list((tmp_path / "env").iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/usr/bin/apt-get"), reason="needs apt-get")
def test_a_mirror_that_does_not_answer_is_told_in_one_line(tmp_path: Path):
    """The host's apt names a mirror on this machine where nothing listens."""
    (tmp_path / "sources.list").write_text("deb http://127.0.0.1:9/debian bookworm main\n")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list"; Dir::Etc::sourceparts "{tmp_path}/none";'
    )
    done = subprocess.run(
        [str(ROOT / "scripts/make_aarch64_env.sh"), str(tmp_path / "env")],
        env={**os.environ, "APT_CONFIG": str(tmp_path / "apt.conf"), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    if "Debian's keys" in done.stderr:
        pytest.skip("needs Debian's keys")
    assert done.returncode == NO_PACKAGES, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("cannot be had here: Debian's package lists: ")


def test_the_wheel_is_built_with_the_tests_own_helper(tmp_path: Path):
    def run(command: list[str], PYTHONPATH: str) -> str:  # noqa: N803 (the variable's name)
        assert "from installs import build, copy_sources" in command[2]
        assert (Path(PYTHONPATH) / "installs.py").is_file()
        return f"{tmp_path / 'edgedet.whl'}\n"

    assert build_wheel(tmp_path, run) == tmp_path / "edgedet.whl"
