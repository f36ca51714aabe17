"""The examples of docs/python.md, each run as it stands."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import pytest

pytest.importorskip("ai_edge_litert", reason="the examples run the bundled INT8 file")

from edgedet import demo

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^## (.+?)\n.*?```python\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL)
NEEDS = {"supervision": "supervision", "edgedet.evaluate": "pycocotools", "edgedet.export(": "torch"}


def test_there_are_ten_examples() -> None:
    assert len(EXAMPLES) == 10


@pytest.mark.filterwarnings("default")  # those of supervision are not ours
@pytest.mark.parametrize(
    ("title", "code"),
    [
        pytest.param(*example, id=example[0], marks=[pytest.mark.slow] if "edgedet.export(" in example[1] else [])
        for example in EXAMPLES  # an export of D0 takes 10 s
    ],
)
def test_the_example_runs(
    title: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for word, module in NEEDS.items():
        if word in code:
            pytest.importorskip(module, reason=f"the example needs {module}")
    shutil.copy(demo.INT8, tmp_path / "model.tflite")
    shutil.copy(demo.CLIP, tmp_path / "street.mp4")
    (tmp_path / "photos").mkdir()
    first, second = demo.clip_frames(2)
    for name, bgr in (("photo.jpg", first), ("photos/a.png", first), ("photos/b.png", second)):
        cv2.imwrite(str(tmp_path / name), bgr)
    h, w = first.shape[:2]
    images = [{"id": at, "file_name": name, "width": w, "height": h} for at, name in enumerate(("a.png", "b.png"))]
    box = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 10, 50, 100], "area": 5000, "iscrowd": 0}
    labels = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    before = {path.name for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    exec(compile(code, title, "exec"), {"__name__": "__main__"})
    made = {path.name for path in tmp_path.iterdir()} - before
    assert capsys.readouterr().out or made
