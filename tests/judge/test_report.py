"""The pictures of `edgedet eval --report`, and the mistakes on them, on a model whose boxes are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media import SIZE_WH, picture

from edgedet.judge.labels import LabelledImage
from edgedet.judge.mistakes import find_false_alarms, find_misses
from edgedet.types import Detections

A, B, C = (10.0, 10.0, 30.0, 30.0), (50.0, 10.0, 70.0, 30.0), (10.0, 50.0, 60.0, 90.0)
ROWS = [
    (
        # A as class 0, B as class 1; the model finds A as class 1 (0.9) and, weakly, as class 0 (0.2), and C (0.8)
        (A, B),
        (0, 1),
        [(A, 1, 0.9), (C, 0, 0.8), (A, 0, 0.2)],
    ),
    ((C,), (0,), [(C, 0, 0.7), (B, 1, 0.3)]),
]


def labelled(boxes: tuple, class_ids: tuple) -> LabelledImage:
    n = len(boxes)
    return LabelledImage(Path("0.png"), None, np.array(boxes), np.array(class_ids), np.ones(n), np.zeros(n, dtype=bool))


def detections(rows: list) -> Detections:
    boxes, class_ids, scores = zip(*rows, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(class_ids, np.int64))


DETECTED = [(labelled(boxes, classes), detections(rows)) for boxes, classes, rows in ROWS]


def test_the_worst_misses_come_first_and_say_what_the_model_saw_instead():
    first, second, third = find_misses(DETECTED, (0, 1), most=9)
    assert (first.class_id, first.score, first.other_class) == (1, 0.0, None)  # B: nothing there
    assert (second.class_id, second.score) == (0, pytest.approx(0.2))  # A: seen, but surer as class 1
    assert (second.other_class, second.other_score) == (1, pytest.approx(0.9))
    assert third.score == pytest.approx(0.7)
    assert len(find_misses(DETECTED, (0, 1), most=2)) == 2
    assert [miss.class_id for miss in find_misses(DETECTED, (0, -1), most=9)] == [0, 0]  # class 1 is left out


def test_the_surest_false_alarms_come_first_and_say_what_was_labelled_there():
    alarms = find_false_alarms(DETECTED, (0, 1), most=9)
    assert [round(alarm.score, 2) for alarm in alarms] == [0.9, 0.8, 0.3]
    assert [alarm.other_class for alarm in alarms] == [0, None, None]
    np.testing.assert_allclose(alarms[0].others_xyxy, [A])


def test_eval_writes_its_pictures_into_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The second picture's person is labelled where the model sees a car: one miss, one false alarm."""
    cv2 = pytest.importorskip("cv2", reason="edgedet eval reads images by OpenCV")
    pytest.importorskip("pycocotools", reason="needs the bench extra")
    pytest.importorskip("matplotlib", reason="needs the bench extra")
    import json

    from media import SOURCE_BOXES_XYXY, write_fake_model

    from edgedet import cli

    monkeypatch.chdir(tmp_path)
    write_fake_model(Path("model.fake"))
    annotations = []
    for image, classes in enumerate(((0, 1), (1, 1))):
        cv2.imwrite(f"{image}.png", picture(80 * image))
        for (x1, y1, x2, y2), class_id in zip(SOURCE_BOXES_XYXY, classes, strict=True):
            box = {"bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)], "category_id": class_id + 1}
            annotations.append({"id": len(annotations), "image_id": image, **box})
    images = [{"id": i, "file_name": f"{i}.png", "width": SIZE_WH[0], "height": SIZE_WH[1]} for i in range(2)]
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]
    Path("labels.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    assert cli.main(["eval", "model.fake", "--data", "labels.json", "--report", "report", "--threads", "1"]) == 0
    sheet = cv2.imread("report/worst.jpg")
    assert sheet.shape[1] == 5 * 240
    assert sorted(path.name for path in Path("report").iterdir()) == [
        "ap-per-class.png",
        "precision-recall.png",
        "worst.jpg",
    ]
    tile = sheet[36 : 36 + 240, :240].astype(int)  # the first miss: its label's thick green line
    assert ((tile[..., 1] - tile[..., 2] > 60) & (tile[..., 1] - tile[..., 0] > 40)).sum() > 100
    for name in ("ap-per-class.png", "precision-recall.png"):
        assert cv2.imread(f"report/{name}").std() > 20
