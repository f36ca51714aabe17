"""A teacher labels frames, and a float network teaches the one that rounds."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from training_sets import CLASSES, tiny_checkpoint, write_coco

from edgedet import cli
from edgedet.detector import Detector
from edgedet.errors import InputError
from edgedet.export.checkpoints.checkpoint import load_checkpoint
from edgedet.stream.images import read_image
from edgedet.training.int8.distil import make_teacher_loss
from edgedet.training.pseudo import Distillation, label_frames, take_frames
from edgedet.training.samples import Batch

torch.set_num_threads(1)


@pytest.fixture
def teacher(tmp_path):
    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path / "teacher.safetensors", ("square", "car")))
    write_coco(tmp_path, "train", 3, 0)
    return checkpoint


def test_frames_get_what_the_teacher_detects_and_its_scores(teacher, tmp_path, monkeypatch):
    """The teacher knows square and car; of the classes to learn, square is at slot 1, and car is none."""
    notes, seen = [], []
    detect = Detector.__call__
    monkeypatch.setattr(Detector, "__call__", lambda self, bgr: seen.append(detect(self, bgr)) or seen[-1])
    source = Distillation(str(tmp_path / "train"), score=0.005)
    take_frames(source, teacher.spec, tmp_path / "frames", notes.append)
    pictures = label_frames(teacher, source, ("disc", "Square"), tmp_path / "frames", notes.append)
    assert len(pictures) == len(seen) == 3
    for picture, detections in zip(pictures, seen, strict=True):
        squares = detections[detections.class_ids == 0]
        np.testing.assert_allclose(picture.image.boxes_xyxy, squares.boxes_xyxy)
        np.testing.assert_allclose(picture.scores, squares.scores)
        assert set(picture.class_ids) == {1}
        assert read_image(picture.image.path).shape == (96, 128, 3)
    assert "labels of the teacher" in notes[0]


def test_as_many_frames_are_labelled_as_were_asked_for(teacher, tmp_path):
    write_coco(tmp_path, "many", 24, 0)
    source = Distillation(str(tmp_path / "many"), frames=10, score=0.005)
    take_frames(source, teacher.spec, tmp_path / "frames", print)
    assert len(label_frames(teacher, source, CLASSES, tmp_path / "frames", print)) == 10


def test_frames_are_taken_once(teacher, tmp_path):
    """A camera would show others after --resume; another number of frames is taken anew, and none of before stays."""
    write_coco(tmp_path, "many", 24, 0)
    source, folder, notes = Distillation(str(tmp_path / "many"), frames=10), tmp_path / "frames", []
    take_frames(source, teacher.spec, folder, print)
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    take_frames(source, teacher.spec, folder, notes.append)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")} == before
    assert "already" in notes[0]
    take_frames(replace(source, frames=4), teacher.spec, folder, print)
    assert len(list(folder.glob("*.png"))) == 4


def test_a_teacher_without_the_classes_or_without_detections_is_refused(teacher, tmp_path):
    source = Distillation(str(tmp_path / "train"))
    take_frames(source, teacher.spec, tmp_path / "frames", print)
    with pytest.raises(InputError, match="have nothing in common"):
        label_frames(teacher, source, ("cat",), tmp_path / "frames", print)
    with pytest.raises(InputError, match="detects nothing in 3 frames"):
        label_frames(teacher, replace(source, score=0.9), CLASSES, tmp_path / "frames", print)


def test_a_teacher_needs_frames_and_frames_a_teacher(tmp_path, capsys):
    assert cli.main(["train", "--phi", "0", "--data", "x", "--distill", str(tmp_path)]) == 2
    assert "go together" in capsys.readouterr().err


def test_the_teachers_loss_is_least_at_the_teachers_outputs():
    """Codes count where the teacher is sure only: those of the background may be any."""
    torch.manual_seed(0)
    logits, codes = torch.randn(1, 50, 2) - 2, torch.randn(1, 50, 4)
    logits[0, 25:] = -30.0

    class Fixed(torch.nn.Module):
        def forward(self, pixels):
            return logits, codes

    loss = make_teacher_loss(Fixed())
    batch = Batch(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), [])
    least = float(loss(batch, logits, codes))
    for change in (-0.5, 0.5):
        assert float(loss(batch, logits + change, codes)) > least
        assert float(loss(batch, logits, codes + change)) > least
    background = codes.clone()
    background[0, 25:] += 5.0
    assert float(loss(batch, logits, background)) == pytest.approx(least, abs=1e-6)
