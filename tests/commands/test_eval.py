"""`edgedet eval`: figures by hand on a fake model, by pycocotools' own road, and real checkpoints' published AP."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from media import FAKE_BOXES, META, SIZE_WH, SOURCE_BOXES_XYXY, picture, write_fake_model

from edgedet import cli
from edgedet.engines.fake import save_fake
from edgedet.judge.average_precision import FIGURES, compute_accuracy
from edgedet.judge.labels import LabelledImage, match_classes, read_dataset
from edgedet.postprocess import ORIGINALS, NmsRules
from edgedet.types import Detections

cv2 = pytest.importorskip("cv2", reason="edgedet eval reads images by OpenCV")
pytest.importorskip("pycocotools", reason="needs the bench extra")

PERSON, CAR = SOURCE_BOXES_XYXY  # what the fake model finds in every picture: 0.9 sure of the person, 0.6 of the car
README_TOLERANCE = (
    0.001  # of each figure, pre-processing as in training; 0.0002 was seen, for the order of float32 sums
)
SHIPPED_TOLERANCE = 0.01  # as the runtime does it


def coco_labels(*boxes_of_images, categories=("person", "car")):
    """Return COCO values for pictures 0.png, 1.png, ...: each a list of (category index, x1 y1 x2 y2)."""
    annotations = [
        {"image_id": image, "category_id": category + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for image, boxes in enumerate(boxes_of_images)
        for category, (x1, y1, x2, y2) in boxes
    ]
    return {
        "images": [
            {"id": image, "file_name": f"{image}.png", "width": SIZE_WH[0], "height": SIZE_WH[1]}
            for image in range(len(boxes_of_images))
        ],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations)],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(categories)],
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder with model.fake and the pictures 0.png to 2.png."""
    monkeypatch.chdir(tmp_path)
    write_fake_model(Path("model.fake"))
    for index in range(3):
        cv2.imwrite(f"{index}.png", picture(80 * index))
    return tmp_path


def run_eval(*options, data="labels.json", model="model.fake"):
    return cli.main(["eval", model, *(["--data", data] if data else []), "--threads", "1", *map(str, options)])


def figures(labels, *options, code=0):
    """Return the JSON of a run on these labels."""
    Path("labels.json").write_text(json.dumps(labels))
    assert run_eval("--json", "figures.json", *options) == code
    return json.loads(Path("figures.json").read_text())


def error_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


# --- figures by hand --------------------------------------------------------------------------------------------


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


# --- what is printed and written --------------------------------------------------------------------------------


def test_the_json_says_what_was_measured_and_how(folder, capsys):
    Path("labels.json").write_text(json.dumps(coco_labels([(0, PERSON), (1, CAR)])))
    assert run_eval("--json") == 0
    output = capsys.readouterr()
    found = json.loads(output.out)  # nothing else on stdout
    assert [name for name, _ in FIGURES] == [key for key in found if key.startswith("A")]
    assert (found["score_floor"], found["max_boxes"], found["nms"]) == (0.01, 100, "hard")
    assert len(found["model_sha256"]) == 64
    assert found["failures"] == []
    assert "AP50   1.0000" in output.err


def test_the_table_names_figures_and_classes(folder, capsys):
    Path("labels.json").write_text(json.dumps(coco_labels([(0, PERSON), (1, PERSON)])))
    assert run_eval() == 0
    lines = capsys.readouterr().out.splitlines()
    assert "AP     0.5000  mean over IoU 0.50 to 0.95" in lines
    assert "APs         -  small: below 32 x 32 pixels" in lines
    assert lines[-2:] == ["1.0000  person", "0.0000  car"]


def test_soft_nms_is_an_option_and_named(folder):
    labels = coco_labels([(0, PERSON)], categories=("person",))
    assert figures(labels, "--soft-nms")["nms"] == "soft (gaussian)"
    assert figures(labels, "--original-nms")["nms"] == figures(labels)["nms"] == "hard"  # effdet's is the default


def test_the_files_rules_are_followed_and_the_code_bases_own_are_one_option(folder, capsys):
    labels = coco_labels([(0, PERSON)], categories=("person",))
    automl = replace(META, spec=replace(META.spec, family="automl"))
    for meta, option, words in (
        (automl, [], "hard"),
        (automl, ["--original-nms"], "soft (gaussian), best class of each anchor"),
        (replace(META, nms=ORIGINALS["zylo117"]), [], "hard, best class of each anchor"),
    ):
        save_fake("model.fake", meta, FAKE_BOXES)
        assert figures(labels, *option)["nms"] == words
    save_fake("model.fake", replace(META, nms=NmsRules(method="none")), FAKE_BOXES)
    assert run_eval("--soft-nms") == 2
    assert "the file's graph has applied NMS, so that soft (gaussian) NMS would be a second one" in error_line(capsys)


def test_the_limit_takes_the_first_images(folder):
    found = figures(coco_labels([(0, PERSON)], [], [], categories=("person",)), "--limit", 1)
    assert (found["images"], found["AP"]) == (1, pytest.approx(1))


def test_classes_that_one_side_lacks_are_told_in_one_line(folder, capsys):
    found = figures(coco_labels([(0, PERSON), (1, CAR)], categories=("person", "sofa")))
    lines = capsys.readouterr().err.splitlines()
    assert (
        "edgedet: classes left out: 1 of the data that the model does not know (sofa); "
        "1 of the model that the data does not have (car)" in lines
    )
    assert found["left_out"] == {"data": ["sofa"], "model": ["car"]}
    assert found["per_class"] == pytest.approx({"person": 1})
    assert (found["boxes"], found["AP"]) == (1, pytest.approx(1))


def test_a_model_of_90_unnamed_slots_is_judged_by_category_ids(folder, capsys):
    """COCO's dog is category 18: slot 17. The table says its name."""
    meta = replace(
        META, spec=replace(META.spec, num_classes=90), class_names=tuple(f"class_{slot}" for slot in range(90))
    )
    save_fake("model.fake", meta, [(17, 0.9, [16, 8, 48, 72])])
    labels = coco_labels([(0, PERSON)], categories=("dog",))
    labels["categories"][0]["id"] = labels["annotations"][0]["category_id"] = 18
    found = figures(labels)
    assert found["per_class"] == pytest.approx({"dog": 1})
    assert len(found["left_out"]["model"]) == 89


def test_progress_says_the_time_left(folder, capsys):
    """tqdm's bar: done/all, then [time gone<time left."""
    figures(coco_labels([(0, PERSON)], [], []))
    assert re.search(r"eval: .* 0/3 \[00:00<", capsys.readouterr().err)


# --- what fails -------------------------------------------------------------------------------------------------


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


# --- real checkpoints, whose JSON has the AP that effdet's own pipeline gets ------------------------------------

CHECKPOINTS = {"cards": "data/cards/images/test", "street": "data/street/test.json"}


def published(shared_dir, name):
    return json.loads((shared_dir / f"weights/tf_efficientdet_d0_{name}.json").read_text())


def exported_ap(shared_dir, folder, name):
    """Export the checkpoint and return the figures of `edgedet eval` on its test data."""
    pytest.importorskip("torch", reason="needs the export extra")
    weights = shared_dir / f"weights/tf_efficientdet_d0_{name}.pth"
    assert cli.main(["export", "--phi", "0", "--weights", str(weights), "--out", str(folder), "--threads", "1"]) == 0
    model = folder / f"tf_efficientdet_d0_{name}.onnx"
    data = shared_dir / CHECKPOINTS[name]
    assert cli.main(["eval", str(model), "--data", str(data), "--threads", "1", "--json", str(folder / "f.json")]) == 0
    return json.loads((folder / "f.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_exported_file_keeps_the_published_ap(shared_dir, tmp_path, name):
    """As shipped: the picture's rest is filled with round(255 x mean) before normalising, not with 0 after it."""
    found, wanted = exported_ap(shared_dir, tmp_path, name), published(shared_dir, name)
    assert found["images"] == wanted["test_images"]
    assert abs(found["AP"] - wanted["AP"]) < SHIPPED_TOLERANCE
    assert set(found["per_class"]) == set(wanted["classes"])


def readme_detections(network, spec, bgr):
    """Pre-process as the checkpoint was trained: normalise, then pad with zeros; clip to the canvas, then scale."""
    import torch

    from edgedet.anchors import anchors_for
    from edgedet.judge.average_precision import SCORE_FLOOR
    from edgedet.postprocess import postprocess
    from edgedet.types import RawOutputs

    side = spec.input_hw[0]
    scale = min(side / bgr.shape[0], side / bgr.shape[1])
    w, h = int(bgr.shape[1] * scale), int(bgr.shape[0] * scale)
    rgb = cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), (w, h), interpolation=cv2.INTER_LINEAR)
    canvas = np.zeros((1, 3, side, side), dtype=np.float32)
    normalised = (rgb.astype(np.float32) / 255 - np.float32(spec.mean_rgb)) / np.float32(spec.std_rgb)
    canvas[0, :, :h, :w] = normalised.transpose(2, 0, 1)
    with torch.inference_mode():
        logits, codes = network(torch.from_numpy(canvas))
    raw = RawOutputs(logits[0].numpy(), codes[0].numpy())
    found = postprocess(raw, anchors_for(spec), 1.0, (side, side), score=SCORE_FLOOR)
    return Detections(found.boxes_xyxy / np.float32(scale), found.scores, found.class_ids)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_network_has_the_published_ap_where_pictures_are_prepared_as_in_training(shared_dir, name):
    """All twelve figures and not AP alone, because nothing differs but the order of float32 sums."""
    torch = pytest.importorskip("torch", reason="needs the export extra")
    from edgedet.export.checkpoints.checkpoint import load_checkpoint, network_from_checkpoint
    from edgedet.judge.average_precision import detect_images

    torch.set_num_threads(1)
    checkpoint = load_checkpoint(shared_dir / f"weights/tf_efficientdet_d0_{name}.pth")
    network = network_from_checkpoint(checkpoint)
    dataset = read_dataset(shared_dir / CHECKPOINTS[name])
    found, failures = detect_images(lambda bgr: readme_detections(network, checkpoint.spec, bgr), dataset.images)
    assert failures == []
    class_map = match_classes(dataset, checkpoint.class_names)
    accuracy = compute_accuracy(found, class_map, checkpoint.class_names)
    stats = [-1.0 if value is None else value for value in accuracy.figures.values()]
    assert stats == pytest.approx(published(shared_dir, name)["stats"], abs=README_TOLERANCE)
