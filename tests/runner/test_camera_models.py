"""Cameras with models of their own in one run: which one detects, how often a file is opened, names of classes."""

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cameras import mjpeg_camera
from media import FAKE_BOXES, META, picture, write_fake_model
from waiting import wait_until

from edgedet import cli
from edgedet.engines import fake
from edgedet.engines.fake import save_fake
from edgedet.motion.gate import MotionRules
from edgedet.runner.camera_models import open_camera_models
from edgedet.runner.models import ModelOptions
from edgedet.types import Frame

pytest.importorskip("cv2", reason="edgedet run reads by OpenCV")


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Two models: the first as ever, the second with a new class before the first one's; which files were opened."""
    monkeypatch.chdir(tmp_path)
    write_fake_model(Path("first.fake"))
    names = tuple(reversed([*META.class_names[: META.spec.num_classes - 1], "fox"]))
    save_fake("second.fake", replace(META, class_names=names), [(0, 0.9, FAKE_BOXES[0][2])])
    paths = []
    open_model = fake.open_model

    def counted(path, threads):
        paths.append(Path(path).name)
        return open_model(path, threads)

    monkeypatch.setattr(fake, "open_model", counted)
    return paths


def models_of(models, path=None):
    return open_camera_models(ModelOptions(path, 1), models, True, lambda folder: folder)


def frame_of(camera, level=0):
    return Frame(picture(level), 0.0, 0, camera=camera)


def names_in(models, camera):
    (detect,) = models.detect_functions()
    return {models.class_names[class_id] for class_id in detect(frame_of(camera)).detections.class_ids}


def test_each_camera_is_looked_at_by_its_model_and_names_are_right(opened):
    models = models_of({"door": "first.fake", "yard": "second.fake"})
    assert models.class_names == (*META.class_names, "fox")
    assert names_in(models, "yard") == {"fox"}
    assert "fox" not in names_in(models, "door")
    assert len(names_in(models, "door")) > 0


def test_a_file_that_several_cameras_name_is_opened_once(opened):
    models = models_of({"a": "first.fake", "b": "second.fake", "c": "./first.fake", "d": None}, path="second.fake")
    assert sorted(opened) == ["first.fake", "second.fake"]
    assert dict(models.of_camera) == {"a": 0, "b": 1, "c": 0, "d": 1}


def test_cameras_without_models_of_their_own_have_the_runs(opened):
    models = models_of({"a": None, "b": None}, path="first.fake")
    assert opened == ["first.fake"]
    assert not models.several


def test_motion_gate_keeps_models_apart_and_frames_in_order(opened):
    models = models_of({"door": "first.fake", "yard": "second.fake"})
    gate = models.gate(MotionRules())
    frames = [frame_of("yard"), frame_of("door")]
    assert [gate.full(frame) for frame in frames] == [True, True]
    results = gate.detect(frames)
    assert [result.frame.camera for result in results] == ["yard", "door"]
    assert {models.class_names[class_id] for class_id in results[0].detections.class_ids} == {"fox"}
    np.testing.assert_array_equal(
        results[1].detections.class_ids, models.detectors[0].detect(frames[1]).detections.class_ids
    )


def test_model_that_cannot_be_opened_closes_the_others(opened):
    Path("broken.fake").write_text("{")
    with pytest.raises(Exception, match="broken.fake"):
        models_of({"a": "first.fake", "b": "broken.fake"})


def seen_in(path):
    """The classes that were detected by each of two cameras, as far as the file is written."""
    text = Path(path).read_text() if Path(path).exists() else ""
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return {
        camera: {box["class"] for line in lines if line["camera"] == camera for box in line["detections"]}
        for camera in ("door", "yard")
    }


def end_when_both_were_seen():
    wait_until(lambda: all(seen_in("out.jsonl").values()))
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("motion", ["", "motion: true\n"])
def test_run_of_a_configuration_with_two_models(opened, motion, capfd):
    pytest.importorskip("yaml", reason="--config needs PyYAML")
    with mjpeg_camera() as one, mjpeg_camera() as other:
        Path("edgedet.yaml").write_text(
            f"threads: 1\njsonl: out.jsonl\n{motion}cameras:\n"
            f"  door: {{source: '{one.url}', model: first.fake}}\n"
            f"  yard: {{source: '{other.url}', model: second.fake}}\n"
        )
        meanwhile = threading.Thread(target=end_when_both_were_seen)
        meanwhile.start()
        assert cli.main(["run", "--config", "edgedet.yaml"]) == 128 + signal.SIGINT
        meanwhile.join()
    seen = seen_in("out.jsonl")
    assert seen["yard"] == {"fox"}
    assert seen["door"]
    assert "fox" not in seen["door"]
    assert capfd.readouterr().out.count("model ") == 2
