"""YOLO folders in the three layouts that are usual, and damaged ones."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgedet.errors import InputError
from edgedet.judge.labels import read_dataset


def write_picture(path, size_wh=(80, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size_wh[1], size_wh[0], 3), 90, np.uint8))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("picture", "label", "named"),
    [
        ("a.png", "a.txt", "."),  # LabelImg
        ("images/a.png", "labels/a.txt", "."),
        ("images/val/a.png", "labels/val/a.txt", "images/val"),  # ultralytics
    ],
)
def test_boxes_are_turned_into_pixels_wherever_the_labels_are(tmp_path, picture, label, named):
    """Of 80 x 40 pixels: centre 0.5 0.25, size 0.5 0.5 is 20 0 60 20."""
    write_picture(tmp_path / picture)
    write(tmp_path / label, "1 0.5 0.25 0.5 0.5\n0 0.25 0.5 0.25 0.5\n")
    write((tmp_path / label).parent / "classes.txt", "cat\ndog\n")
    data = read_dataset(tmp_path / named)
    (image,) = data.images
    assert data.class_names == ("cat", "dog")
    assert image.size_wh == (80, 40)
    np.testing.assert_allclose(image.boxes_xyxy, [[20, 0, 60, 20], [10, 10, 30, 30]])
    assert image.class_ids.tolist() == [1, 0]
    assert image.areas.tolist() == [800, 400]


@pytest.mark.parametrize("names", ["[cat, dog]", "{0: cat, 1: dog}"])
def test_names_are_those_of_the_data_sets_yaml(tmp_path, names):
    write_picture(tmp_path / "images/train/a.png")
    write(tmp_path / "labels/train/a.txt", "1 0.5 0.5 0.5 0.5\n")
    write(tmp_path / "data.yaml", f"train: images/train\nnames: {names}\n")
    assert read_dataset(tmp_path / "images/train").class_names == ("cat", "dog")


def test_what_cannot_be_used_is_said_and_the_rest_is_read(tmp_path):
    for name in "abcde":
        write_picture(tmp_path / f"{name}.png")
    write(tmp_path / "a.txt", "0 0.5 0.5 0.5 0.5\n")
    write(tmp_path / "b.txt", "0 20 20 60 60\n")
    write(tmp_path / "c.txt", "0 0.5 0.5\n")
    write(tmp_path / "d.txt", "")
    write(tmp_path / "z.txt", "0 0.5 0.5 0.5 0.5\n")
    data = read_dataset(tmp_path)
    assert [(image.path.name, len(image.class_ids)) for image in data.images] == [("a.png", 1), ("d.png", 0)]
    assert data.class_names == ("class_0",)
    assert data.unlabelled == 1
    assert len(data.failures) == 3
    assert "b.txt is no YOLO label: the box 20 20 60 60 is not in shares" in data.failures[0]
    assert "c.txt is no YOLO label: a line has 3 numbers" in data.failures[1]
    assert "z.txt has no picture" in data.failures[2]


def test_a_class_without_a_name_is_a_failure(tmp_path):
    write_picture(tmp_path / "a.png")
    write(tmp_path / "a.txt", "2 0.5 0.5 0.5 0.5\n")
    write(tmp_path / "classes.txt", "cat\ndog\n")
    with pytest.raises(InputError, match="it has class 2, but there are 2 class names"):
        read_dataset(tmp_path)
