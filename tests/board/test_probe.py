"""A package is tried in a process of its own: it loads, and computes a small convolution exactly, or is named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgedet.board.probe import OUTPUT_SCALE, WEIGHT_SCALE, compute_sums, probe


def test_the_convolution_of_the_check_is_exact():
    """Written out for the first cell and output channel: inputs -125 + 91 i mod 251, weights -127 + 37 i."""
    x, w = [-125, -34, 57, -103, -12, 79, -81, 10], [-127, -90, -53, -16, 21, 58, 95, -123]
    assert compute_sums()[0][0] == sum(a * b for a, b in zip(x, w, strict=True)) == 12967
    scaled = np.array(compute_sums()) * (WEIGHT_SCALE / OUTPUT_SCALE)
    assert np.abs(scaled).max() < 127  # nothing is clipped
    assert np.abs(scaled % 1 - 0.5).min() > 0  # nothing is rounded from halfway
    assert np.abs(compute_sums()).max() < 2**24  # exact in float32


@pytest.mark.parametrize("name", ["numpy", "cv2", "ai_edge_litert", "onnxruntime"])
def test_what_is_installed_here_works(name: str):
    pytest.importorskip(name)
    found = probe(name)
    assert (found.state, found.reason) == ("works", None)
    assert found.off_by == (None if name == "cv2" else 0)
    assert found.version


FAKES = {
    "raise ImportError('libnvinfer.so.8: cannot open')": ("broken", "ImportError: libnvinfer.so.8: cannot open"),
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": ("broken", "it ended the process with SIGSEGV"),
    "import os; os._exit(7)": ("broken", "it ended the process with exit code 7"),
    "import sys; print('noise'); sys.exit('no GPU')": ("broken", "no GPU"),
    "__version__ = '8.5'\nclass ICudaEngine: num_io_tensors = 0": ("works", None),
}


@pytest.mark.parametrize("code", FAKES)
def test_a_package_is_tried_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str):
    (tmp_path / "tensorrt.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = probe("tensorrt")
    assert (found.state, found.reason) == FAKES[code]


def test_an_engine_that_is_off_by_one_is_found_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A fake onnxruntime that multiplies as it should and then adds 1."""
    (tmp_path / "onnxruntime.py").write_text(
        "import numpy as np\n"
        "from edgedet.board.probe import compute_sums\n"
        "class InferenceSession:\n"
        "    def __init__(self, data, providers): assert b'Conv' in data\n"
        "    def run(self, names, feeds): return [np.array(compute_sums(), np.float32).T + 1]\n"
    )
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(root)]))
    monkeypatch.syspath_prepend(tmp_path)
    found = probe("onnxruntime")
    assert (found.state, found.reason) == ("wrong", "a convolution with known result is off by 1")
