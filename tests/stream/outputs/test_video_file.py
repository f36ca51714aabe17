"""Opening a video file: what OpenCV prints about VP8 is kept out of stderr, and nobody else's line is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

cv2 = pytest.importorskip("cv2", reason="videos are written by OpenCV")

from edgedet.stream.outputs import video_file


@pytest.mark.parametrize(("suffix", "lines"), [(".webm", "a camera is lost\n"), (".mkv", "OpenCV: FFMPEG: tag\n")])
def test_other_threads_lines_reach_stderr_while_a_webm_file_is_opened(
    suffix: str, lines: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def open_writer(*args: object) -> None:
        os.write(2, b"OpenCV: FFMPEG: tag\n")
        if suffix == ".webm":
            os.write(2, b"a camera is lost\n")

    monkeypatch.setattr(cv2, "VideoWriter", open_writer)
    video_file._open(tmp_path / f"x{suffix}", "VP80", 10.0, (64, 64))
    assert capfd.readouterr().err == lines
    os.write(2, b"after it\n")
    assert capfd.readouterr().err == "after it\n"
