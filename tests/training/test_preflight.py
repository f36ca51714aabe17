"""What is wrong with labels is said before anything is trained."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
from training_sets import CLASSES, tiny_checkpoint, write_coco

from edgedet import cli
from edgedet.errors import InputError
from edgedet.judge.labels import LabelledImage, read_dataset
from edgedet.training.preflight import check_labels, find_odd_boxes


@pytest.fixture
def sets(tmp_path):
    return write_coco(tmp_path, "train", 4, 0), write_coco(tmp_path, "val", 2, 1)


def labelled(boxes, class_ids=None):
    boxes = np.array(boxes, dtype=float).reshape(-1, 4)
    ids = np.zeros(len(boxes), np.int64) if class_ids is None else np.array(class_ids)
    return LabelledImage("x.png", (100, 80), boxes, ids, np.ones(len(boxes)), np.zeros(len(boxes), bool))


@pytest.mark.parametrize(
    ("boxes", "reasons"),
    [
        ([[10, 10, 50, 50], [0, 0, 100, 80]], []),
        ([[110, 10, 150, 50]], ["boxes wholly outside the picture"]),
        ([[60, 10, 150, 50]], ["boxes that reach outside the picture"]),
        ([[10, 10, 10, 50]], ["boxes thinner than 2 pixels"]),
        ([[10, 10, 50, 50], [10, 10, 50, 50]], ["the same box twice"]),
        ([], []),
    ],
)
def test_odd_boxes_are_named(boxes, reasons):
    assert find_odd_boxes(labelled(boxes), (100, 80)) == reasons


def test_the_same_box_with_two_classes_may_be(sets):
    assert find_odd_boxes(labelled([[10, 10, 50, 50]] * 2, [0, 1]), (100, 80)) == []


def test_a_picture_to_judge_on_that_is_learnt_from_is_a_problem(sets, tmp_path):
    """By the picture's bytes, whatever the file is called."""
    shutil.copy(tmp_path / "train/002.png", tmp_path / "val/001.png")
    found = check_labels(*map(read_dataset, sets), CLASSES, tmp_path / "sheet.jpg")
    assert found.problems == [
        "the validation has 1 image that the training has, too, so AP would be too good: 001.png is 002.png"
    ]
    assert (tmp_path / "sheet.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_rare_and_missing_classes_and_few_pictures_are_warned_of(sets):
    data, val = map(read_dataset, sets)
    val = replace(val, images=tuple(image for image in val.images if (image.class_ids == 0).all()))
    warnings = check_labels(data, val, CLASSES, None).warnings
    assert "validation: there is no box of disc" in warnings
    assert "training: 4 images are few; from 100 on results become steady" in warnings
    assert any(line.startswith("training: there are fewer than 50 boxes of square (") for line in warnings)


def test_no_box_of_the_classes_is_an_error(sets):
    data, val = map(read_dataset, sets)
    with pytest.raises(InputError, match="not one box of the classes car"):
        check_labels(data, val, ("car",), None)


def test_a_training_does_not_begin_with_problems(sets, tmp_path, capsys):
    (tmp_path / "train/001.png").write_bytes(b"no picture")
    weights = tiny_checkpoint(tmp_path / "t.safetensors")
    arguments = ["train", "--weights", weights, "--data", sets[0], "--val", sets[1], "--threads", "1"]
    assert cli.main([*map(str, arguments), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "001.png is damaged or no image" in error
    assert error.count("Traceback") == 0
    assert not (tmp_path / "out/state.pt").exists()


def test_the_check_alone_trains_nothing(sets, tmp_path, capsys):
    values = json.loads(sets[0].read_text())
    values["annotations"][0]["bbox"] = [100, 10, 60, 30]
    sets[0].write_text(json.dumps(values))
    weights = tiny_checkpoint(tmp_path / "t.safetensors")
    arguments = ["train", "--weights", weights, "--data", sets[0], "--val", sets[1], "--check", "--threads", "1"]
    assert cli.main([*map(str, arguments), "--out", str(tmp_path / "out")]) == 0
    assert "training: 1 image with boxes that reach outside the picture: 000.png" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["labels.jpg"]


def test_names_that_differ_by_case_are_a_problem(sets):
    data, val = map(read_dataset, sets)
    found = check_labels(replace(data, class_names=("square", "Square")), val, ("square",), None)
    assert found.problems == ["the labels name one class both 'square' and 'Square': write it in one way"]


def test_pictures_to_judge_on_need_a_box_and_crowds_are_none(sets):
    data, val = map(read_dataset, sets)
    crowds = tuple(replace(image, ignored=np.ones(len(image.class_ids), bool)) for image in data.images)
    with pytest.raises(InputError, match="to learn from have not one box"):
        check_labels(replace(data, images=crowds), val, CLASSES, None)
    empty = tuple(
        replace(image, class_ids=image.class_ids[:0], boxes_xyxy=image.boxes_xyxy[:0], ignored=image.ignored[:0])
        for image in val.images
    )
    with pytest.raises(InputError, match="to judge on have not one box"):
        check_labels(data, replace(val, images=empty), CLASSES, None)


def test_one_picture_alone_is_said_to_be_too_few(tmp_path, capsys):
    data = write_coco(tmp_path, "one", 1, 0)
    assert cli.main(["train", "--data", str(data), "--check", "--out", str(tmp_path / "out")]) == 2
    assert "one labelled image, which cannot be learnt from and judge as well" in capsys.readouterr().err
