"""Are the figures of `edgedet eval` right, by hand and by pycocotools' own road?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from eval_command import CAR, PERSON, coco_labels, figures, run_eval

from edgedet.judge.average_precision import compute_accuracy
from edgedet.judge.labels import LabelledImage
from edgedet.types import Detections

pytest.importorskip("cv2", reason="edgedet eval reads images by OpenCV")
pytest.importorskip("pycocotools", reason="needs the bench extra")


def test_finding_all_and_nothing_else_is_1(folder):
    found = figures(coco_labels([(0, PERSON), (1, CAR)], [(0, PERSON), (1, CAR)]))
    assert found["AP"] == found["AP50"] == found["AP75"] == found["AR1"] == found["AR100"] == pytest.approx(1)
    assert found["per_class"] == pytest.approx({"person": 1, "car": 1})
    assert (found["images"], found["boxes"]) == (2, 4)


def test_sizes_that_no_label_has_are_none(folder):
    """64 x 128 and 64 x 64 pixels are both medium, 32^2 to 96^2."""
    found = figures(coco_labels([(0, PERSON), (1, CAR)]))
    assert [found[name] for name in ("APs", "APl", "ARs", "ARl")] == [None] * 4
    assert (found["APm"], found["ARm"]) == pytest.approx((1, 1))


def test_a_box_that_is_off_counts_up_to_its_iou(folder):
    """Moved by 15 of 64 pixels: IoU 49 / 79 = 0.62, right at 0.50, 0.55 and 0.60 of the ten thresholds."""
    x1, y1, x2, y2 = PERSON
    found = figures(coco_labels([(0, [x1 + 15, y1, x2 + 15, y2])], categories=("person",)))
    assert (found["AP"], found["AP50"], found["AP75"]) == pytest.approx((0.3, 1, 0))


def test_a_wrong_box_before_the_right_one_halves_precision(folder):
    """The same score in two pictures, and the label is in the second."""
    assert figures(coco_labels([], [(0, PERSON)], categories=("person",)))["AP"] == pytest.approx(0.5)


def test_a_class_that_is_never_found_counts_as_0(folder):
    found = figures(coco_labels([(0, PERSON), (1, PERSON)]))
    assert found["per_class"] == pytest.approx({"person": 1, "car": 0})
    assert found["AP"] == pytest.approx(0.5)


def test_a_crowd_is_neither_right_nor_wrong(folder):
    """The person in the first picture is in a crowd: without it, that box would come first and be wrong."""
    labels = coco_labels([(0, PERSON)], [(0, PERSON)], categories=("person",))
    labels["annotations"][0]["iscrowd"] = 1
    found = figures(labels)
    assert (found["AP"], found["boxes"]) == (pytest.approx(1), 1)


def test_difficult_objects_of_pascal_voc_are_crowds(folder):
    for index, difficult in enumerate((1, 0)):
        sides = "".join(
            f"<{key}>{side}</{key}>" for key, side in zip(("xmin", "ymin", "xmax", "ymax"), PERSON, strict=True)
        )
        item = f"<name>person</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox>"
        Path(f"{index}.xml").write_text(f"<annotation><object>{item}</object></annotation>")
    assert run_eval("--json", "figures.json", data=".") == 0
    found = json.loads(Path("figures.json").read_text())
    assert (found["AP"], found["boxes"], found["images"]) == (pytest.approx(1), 1, 2)


def test_figures_are_those_of_pycocotools_own_road(tmp_path):
    """Random labels and boxes of 3 classes in 20 pictures, by JSON files and loadRes; areas and crowds included."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    found, truths, guesses = [], [], []
    for image_id in range(1, 21):
        low, side = rng.uniform(0, 300, (12, 2)), rng.uniform(10, 150, (12, 2))
        labels = np.hstack([low, low + side])
        boxes = (labels + rng.normal(0, 6, labels.shape)).astype(np.float32)
        kinds, scores = rng.integers(0, 3, (2, 12)), rng.uniform(0.1, 1, 12).astype(np.float32)
        crowds, areas = rng.random(12) < 0.1, side.prod(axis=1) * rng.uniform(0.5, 1, 12)
        guessed = np.where(rng.random(12) < 0.8, kinds[0], kinds[1])
        image = LabelledImage(Path(), None, labels, kinds[0], areas, crowds)
        found.append((image, Detections(boxes, scores, guessed)))
        for index in range(12):
            where = {"image_id": image_id, "id": len(truths) + 1}
            truths.append(
                {
                    **where,
                    "category_id": int(kinds[0][index]) + 1,
                    "bbox": [*labels[index, :2], *side[index]],
                    "area": areas[index],
                    "iscrowd": int(crowds[index]),
                }
            )
            x1, y1, x2, y2 = map(float, boxes[index])
            guesses.append(
                {
                    "image_id": image_id,
                    "category_id": int(guessed[index]) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": float(scores[index]),
                }
            )
    images, categories = [{"id": number} for number in range(1, 21)], [{"id": number} for number in (1, 2, 3)]
    (tmp_path / "truth.json").write_text(
        json.dumps({"images": images, "categories": categories, "annotations": truths})
    )
    (tmp_path / "found.json").write_text(json.dumps(guesses))
    coco = COCO(str(tmp_path / "truth.json"))
    oracle = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), "bbox")
    oracle.evaluate()
    oracle.accumulate()
    oracle.summarize()
    ours = compute_accuracy(found, (0, 1, 2), ("a", "b", "c"))
    assert 0.1 < oracle.stats[0] < 0.9
    assert list(ours.figures.values()) == pytest.approx(oracle.stats.tolist(), abs=1e-12)
    assert np.mean(list(ours.per_class.values())) == pytest.approx(oracle.stats[0], abs=1e-12)
