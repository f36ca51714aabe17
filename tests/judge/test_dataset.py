"""COCO files and Pascal VOC folders as they come, damaged ones included, and their classes beside a model's."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from edgedet.errors import InputError
from edgedet.judge.labels import Dataset, match_classes, read_dataset

COCO = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 40, "height": 30},
        {"id": 9, "file_name": "b.jpg", "width": 40, "height": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 18, "bbox": [1, 2, 10.5, 20], "area": 150.0, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 5, 6], "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
}


def write_coco(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**COCO, **changes}))
    return path


def voc_object(name="ace", box=(10, 20, 30, 60), difficult=0):
    sides = "".join(f"<{key}>{side}</{key}>" for key, side in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


def write_voc(path, *objects, filename=None, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    path.write_text(
        f"<annotation><filename>{filename or path.stem + '.jpg'}</filename>{sides}{''.join(objects)}</annotation>"
    )
    return path


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


# --- COCO -------------------------------------------------------------------------------------------------------


def test_coco_boxes_become_corners_and_keep_area_and_crowd(tmp_path):
    touch(tmp_path / "a.jpg", tmp_path / "b.jpg")
    dataset = read_dataset(write_coco(tmp_path / "labels.json"))
    assert dataset.class_names == ("person", "dog")
    assert dataset.label_ids == (1, 18)
    first, second = dataset.images
    assert (first.path, first.size_wh, len(first.class_ids)) == (tmp_path / "a.jpg", (40, 30), 0)
    np.testing.assert_array_equal(second.boxes_xyxy, [[1, 2, 11.5, 22], [0, 0, 5, 6]])
    np.testing.assert_array_equal(second.class_ids, [1, 0])
    np.testing.assert_array_equal(second.areas, [150, 30])
    np.testing.assert_array_equal(second.ignored, [False, True])


@pytest.mark.parametrize(
    ("labels", "images"),
    [
        ("test.json", "."),
        ("test.json", "test"),
        ("test.json", "images"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
        ("annotations/test.json", "images"),
    ],
)
def test_coco_images_are_found_where_conventions_put_them(tmp_path, labels, images):
    touch(tmp_path / images / "a.jpg", tmp_path / images / "b.jpg")
    dataset = read_dataset(write_coco(tmp_path / labels))
    assert [image.path.resolve() for image in dataset.images] == [
        tmp_path / images / name for name in ("a.jpg", "b.jpg")
    ]


def test_the_folder_that_holds_more_of_the_images_is_taken(tmp_path):
    touch(tmp_path / "test/a.jpg", tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert read_dataset(write_coco(tmp_path / "test.json")).images[0].path == tmp_path / "a.jpg"


def test_coco_images_are_taken_from_the_folder_that_is_named(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    dataset = read_dataset(write_coco(tmp_path / "test.json"), tmp_path / "elsewhere")
    assert dataset.images[1].path == tmp_path / "elsewhere/b.jpg"


def test_coco_images_that_are_nowhere_ask_for_the_option(tmp_path):
    with pytest.raises(InputError, match=r"a\.jpg .* name the folder by --images"):
        read_dataset(write_coco(tmp_path / "test.json"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no COCO file"),
        ("[1, 2]", "no COCO file"),
        ("{}", "'images' is missing"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "'file_name' is missing"),
        ('{"images": 3, "annotations": [], "categories": []}', "no COCO file"),
        ('{"images": [], "annotations": [], "categories": []}', "no labelled image"),
    ],
)
def test_what_is_no_coco_file_is_told(tmp_path, text, says):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=says):
        read_dataset(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_id": 99}, "annotation number 1: 99 is missing or unknown"),
        ({"category_id": 2}, "annotation number 1: 2 is missing or unknown"),
        ({"bbox": [1, 2, 3]}, "annotation number 1: not enough values"),
        ({"bbox": [1, 2, -3, 4]}, "no x, y, width, height"),
        ({"bbox": [1, 2, float("nan"), 4]}, "no x, y, width, height"),
        ({"bbox": "1234x"}, "annotation number 1"),
        ({"bbox": None}, "annotation number 1"),
        ({"area": "big"}, "annotation number 1"),
        ({"image_id": []}, "annotation number 1"),
    ],
)
def test_a_damaged_annotation_is_named(tmp_path, change, says):
    path = write_coco(tmp_path / "x.json", annotations=[{**COCO["annotations"][0], **change}])
    with pytest.raises(InputError, match=says):
        read_dataset(path, tmp_path)


def test_two_images_of_one_id_are_refused(tmp_path):
    path = write_coco(tmp_path / "x.json", images=[COCO["images"][1]] * 2)
    with pytest.raises(InputError, match="1 images have the id of another"):
        read_dataset(path, tmp_path)


def test_images_without_any_box_are_no_measure(tmp_path):
    with pytest.raises(InputError, match="holds 2 images, but not one labelled box"):
        read_dataset(write_coco(tmp_path / "x.json", annotations=[]), tmp_path)


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="wanted a COCO JSON file, or a folder of Pascal VOC XML or YOLO"):
        read_dataset(tmp_path / "nothing")
    with pytest.raises(InputError, match="no folder of images"):
        read_dataset(write_coco(tmp_path / "x.json"), tmp_path / "nothing")


# --- Pascal VOC -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("labels", "images"), [(".", "."), ("Annotations", "JPEGImages"), ("Annotations", ".")])
def test_voc_boxes_are_taken_as_written(tmp_path, labels, images):
    touch(tmp_path / images / "one.jpg")
    write_voc(tmp_path / labels / "one.xml", voc_object("ten"), voc_object("ace", (1, 1, 4, 5.5), difficult=1))
    dataset = read_dataset(tmp_path)
    (image,) = dataset.images
    assert dataset.class_names == ("ace", "ten")
    assert (dataset.label_ids, dataset.failures, dataset.unlabelled) == ((), (), 0)
    assert (image.path, image.size_wh) == (tmp_path / images / "one.jpg", (40, 30))
    np.testing.assert_array_equal(image.boxes_xyxy, [[10, 20, 30, 60], [1, 1, 4, 5.5]])
    np.testing.assert_array_equal(image.class_ids, [1, 0])
    np.testing.assert_array_equal(image.areas, [800, 13.5])
    np.testing.assert_array_equal(image.ignored, [False, True])


def test_voc_images_are_found_by_the_labels_name_then_by_the_name_within(tmp_path):
    """Folders get renamed, and tools write Windows paths or the wrong suffix into the XML."""
    touch(tmp_path / "one.JPG", tmp_path / "photo.png")
    write_voc(tmp_path / "one.xml", voc_object(), filename="other.jpg")
    write_voc(tmp_path / "two.xml", voc_object(), filename="C:\\photos\\photo.png")
    write_voc(tmp_path / "zoo.xml", voc_object(), filename="lost.jpg")
    names = [image.path.name for image in read_dataset(tmp_path).images]
    assert names == ["one.JPG", "photo.png", "lost.jpg"]


def test_voc_labels_without_a_size_fit_any_picture(tmp_path):
    write_voc(tmp_path / "one.xml", voc_object(), size=(0, 0))
    assert read_dataset(tmp_path).images[0].size_wh is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no element found"),
        ("<annotation><object>", "no element found"),
        ("<kml></kml>", "it begins with <kml>, wanted <annotation>"),
        (f"<annotation>{voc_object()}<object><name>ace</name></object></annotation>", "object 2 lacks its name or its"),
        (f"<annotation>{voc_object(name=' ')}</annotation>", "object 1 lacks its name"),
        (f"<annotation>{voc_object(box=(1, 1, 'x', 2))}</annotation>", "could not convert"),
        (f"<annotation>{voc_object(box=(5, 1, 5, 2))}</annotation>", r"object 1 \(ace\) has the box 5, 1, 5, 2"),
        (f"<annotation>{voc_object(box=(5, 1, 'inf', 2))}</annotation>", "which holds nothing"),
        ("<annotation><size><width>inf</width></size></annotation>", "infinity"),
    ],
)
def test_a_bad_label_is_a_failure_and_the_rest_stays(tmp_path, text, says):
    write_voc(tmp_path / "good.xml", voc_object())
    (tmp_path / "bad.xml").write_text(text)
    dataset = read_dataset(tmp_path)
    assert len(dataset.images) == 1
    (failure,) = dataset.failures
    assert re.search(f"bad.xml is no Pascal VOC label: .*{says}", failure)


def test_a_folder_of_bad_labels_tells_the_first_reason(tmp_path):
    (tmp_path / "bad.xml").write_text("<kml></kml>")
    with pytest.raises(InputError, match=r"no labelled image \(.*bad\.xml is no Pascal VOC label"):
        read_dataset(tmp_path)


def test_a_folder_without_labels_is_told(tmp_path):
    touch(tmp_path / "one.jpg")
    with pytest.raises(InputError, match="wanted Pascal VOC XML"):
        read_dataset(tmp_path)


def test_pictures_without_labels_are_counted(tmp_path):
    touch(tmp_path / "one.jpg", tmp_path / "two.jpg", tmp_path / "three.png", tmp_path / "notes.txt")
    write_voc(tmp_path / "one.xml", voc_object())
    assert read_dataset(tmp_path).unlabelled == 2


def test_the_cards_are_143_boxes_on_67_photographs(shared_dir):
    """As its provenance says: 670 boxes on 363 photographs in all."""
    parts = [read_dataset(shared_dir / "data/cards/images" / part) for part in ("test", "train")]
    assert [len(part.images) for part in parts] == [67, 296]
    boxes = [sum(len(image.class_ids) for image in part.images) for part in parts]
    assert (boxes[0], sum(boxes)) == (143, 670)
    assert parts[0].class_names == ("ace", "jack", "king", "nine", "queen", "ten")
    assert all(image.path.is_file() for part in parts for image in part.images)


# --- classes ----------------------------------------------------------------------------------------------------


def data_with(names, label_ids=()):
    return Dataset((), names, label_ids)


def test_classes_match_by_name_whatever_the_case():
    assert match_classes(data_with(("Ace", "ten")), ("nine", "ten", "ace")) == (2, 1)


def test_names_go_before_category_ids():
    assert match_classes(data_with(("ten", "ace"), (1, 2)), ("ace", "ten")) == (1, 0)


def test_a_class_that_the_model_lacks_is_minus_one():
    assert match_classes(data_with(("person", "sofa"), (1, 63)), ("car", "person")) == (1, -1)


def test_90_unnamed_slots_take_the_category_id_less_one():
    """COCO's 80 categories have ids up to 90: 18 is the dog, in slot 17; 91 is beyond the model."""
    slots = tuple(f"class_{slot}" for slot in range(90))
    dataset = data_with(("person", "dog", "toothbrush", "hair brush"), (1, 18, 90, 91))
    assert match_classes(dataset, slots) == (0, 17, 89, -1)


def test_no_common_class_is_refused():
    with pytest.raises(InputError, match=r"\(nine, ten\) and the data's \(person\) have nothing in common"):
        match_classes(data_with(("person",), (1,)), ("nine", "ten"))
    with pytest.raises(InputError, match="export the model with --names"):
        match_classes(data_with(("ace",)), ("class_0",))  # VOC has no ids to fall back on


def test_boxes_outside_their_picture_are_counted(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    boxes = [[0, 0, 10, 10], [200, 0, 10, 10], [0, -20, 10, 10]]
    labels = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box} for box in boxes],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    assert read_dataset(tmp_path / "labels.json").outside == 2


def test_labels_that_are_nested_too_deeply_are_one_line(tmp_path):
    (tmp_path / "labels.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match="is no COCO file, .* nested too deeply"):
        read_dataset(tmp_path / "labels.json")
