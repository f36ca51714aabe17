"""What `edgedet eval` makes of images, labels and options that cannot be used."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from eval_command import PERSON, coco_labels, error_line, figures, run_eval
from media import SIZE_WH, picture

cv2 = pytest.importorskip("cv2", reason="edgedet eval reads images by OpenCV")
pytest.importorskip("pycocotools", reason="needs the bench extra")


def test_an_image_that_fails_is_named_and_the_rest_is_measured(folder, capsys):
    Path("1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Path("2.png").unlink()
    found = figures(coco_labels([(0, PERSON)], [(0, PERSON)], [(0, PERSON)], categories=("person",)), code=1)
    line = error_line(capsys)
    assert line.startswith("edgedet: 2 failed, 1 images done: 1.png is damaged or no image; 2.png cannot be read: No ")
    assert (found["images"], found["boxes"], len(found["failures"])) == (1, 1, 2)
    assert found["AP"] == pytest.approx(1)


def test_a_picture_of_another_size_than_its_labels_fails(folder, capsys):
    """Turned or resized after it was labelled."""
    cv2.imwrite("1.png", picture(0, (SIZE_WH[1], SIZE_WH[0])))
    figures(coco_labels([(0, PERSON)], [(0, PERSON)], categories=("person",)), code=1)
    assert "1.png is 192x256 pixels, but its labels are for 256x192" in error_line(capsys)


def test_a_bad_label_file_is_named_and_the_rest_is_measured(folder, capsys):
    Path("labels").mkdir()
    box = "<bndbox><xmin>32</xmin><ymin>16</ymin><xmax>96</xmax><ymax>144</ymax></bndbox>"
    Path("labels/0.xml").write_text(f"<annotation><object><name>person</name>{box}</object></annotation>")
    Path("labels/1.xml").write_text("<annotation><obj")
    assert run_eval("--images", ".", data="labels") == 1
    output = capsys.readouterr()
    assert "AP     1.0000" in output.out
    assert "1 failed, 1 images done: labels/1.xml is no Pascal VOC label" in output.err.splitlines()[-1]


def test_no_image_that_can_be_read_is_bad_input(folder, capsys):
    Path("0.png").write_bytes(b"")
    Path("labels.json").write_text(json.dumps(coco_labels([(0, PERSON)])))
    assert run_eval("--json", "figures.json") == 2
    assert "1 failed, 0 images done: 0.png is empty (0 bytes)." in error_line(capsys)
    assert not Path("figures.json").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"data": None}, "name --data FILE.json (COCO) or --data FOLDER (Pascal VOC, YOLO)"),
        ({"data": "nothing.json"}, "there is no nothing.json"),
        ({"model": "nothing.onnx"}, "there is no model file nothing.onnx"),
        ({"model": "labels.json"}, "is no model that edgedet runs"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, options, says):
    Path("labels.json").write_text(json.dumps(coco_labels([(0, PERSON)])))
    assert run_eval(**options) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("edgedet: ")
    assert says in line


@pytest.mark.parametrize("module", ["pycocotools", "tqdm"])
def test_a_package_that_is_not_installed_is_named(folder, capsys, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    Path("labels.json").write_text(json.dumps(coco_labels([(0, PERSON)])))
    assert run_eval() == 2
    assert f"edgedet eval needs {module}, which is not installed: pip install 'edgedet[" in error_line(capsys)


@pytest.mark.parametrize("option", ["--threads", "--limit"])
def test_numbers_below_1_are_refused(folder, capsys, option):
    Path("labels.json").write_text(json.dumps(coco_labels([(0, PERSON)])))
    assert run_eval(option, 0) == 2
    assert f"{option} wants a number from 1 up; got 0." in error_line(capsys)


def test_no_class_in_common_is_bad_input(folder, capsys):
    Path("labels.json").write_text(json.dumps(coco_labels([(0, PERSON)], categories=("ace",))))
    assert run_eval() == 2
    assert "(person, car) and the data's (ace) have nothing in common" in error_line(capsys)
