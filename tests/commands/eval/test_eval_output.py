"""What `edgedet eval` prints and writes of what it measured, and by which rules."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from eval_command import CAR, PERSON, coco_labels, error_line, figures, run_eval
from media import FAKE_BOXES, META

from edgedet.engines.fake import save_fake
from edgedet.judge.average_precision import FIGURES
from edgedet.postprocess import ORIGINALS, NmsRules

pytest.importorskip("cv2", reason="edgedet eval reads images by OpenCV")
pytest.importorskip("pycocotools", reason="needs the bench extra")


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
