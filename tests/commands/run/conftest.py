"""The working folder in which `edgedet run` is tested on files."""

from __future__ import annotations

from pathlib import Path

import pytest
from media import write_clip, write_fake_model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder with model.fake and clip.avi (12 frames)."""
    monkeypatch.chdir(tmp_path)
    write_fake_model(Path("model.fake"))
    write_clip(Path("clip.avi"))
    return tmp_path
