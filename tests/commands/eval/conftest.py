"""The working folder in which `edgedet eval` is tested."""

from __future__ import annotations

from pathlib import Path

import pytest
from media import picture, write_fake_model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder with model.fake and the pictures 0.png to 2.png."""
    import cv2

    monkeypatch.chdir(tmp_path)
    write_fake_model(Path("model.fake"))
    for index in range(3):
        cv2.imwrite(f"{index}.png", picture(80 * index))
    return tmp_path
