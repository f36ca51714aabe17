"""The working folder in which `edgedet run` is tested on cameras."""

from __future__ import annotations

from pathlib import Path

import pytest
from media import write_fake_model
from waiting import LAST_RESORT_S

from edgedet.stream.outputs import recording


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "-8")
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "SILENT")
    # On a busy machine an encoder may take seconds; what it leaves out then is tested beside it.
    monkeypatch.setattr(recording, "LONGEST_CLOSE_S", LAST_RESORT_S)
    monkeypatch.setattr(recording, "_LONGEST_LAG_S", LAST_RESORT_S)
    monkeypatch.setattr(recording, "_WAITING", 1000)
    write_fake_model(Path("model.fake"))
    return tmp_path
