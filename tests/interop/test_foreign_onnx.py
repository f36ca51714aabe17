"""ONNX files with boxes, edgedet's own for other programs and those of other makers, are refused in one line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet.cli import main
from edgedet.export.interop import onnx_nms
from edgedet.export.interop.target import Request


def test_a_file_for_other_programs_is_refused_in_one_line(
    request_for_files: Request, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx_nms.write(request_for_files)
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((64, 64, 3), np.uint8))
    assert main(["run", str(request_for_files.folder / "model.onnx"), str(tmp_path / "black.png")]) == 2
    error = capsys.readouterr().err
    assert "holds no edgedet metadata" in error
    assert "Traceback" not in error
