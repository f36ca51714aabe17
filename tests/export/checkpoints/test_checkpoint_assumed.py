"""What a weight file does not say of its training: what is assumed, what is said of it, and what may be told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
from models import saved
from zero_weights import weights_of

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.checkpoint import load_checkpoint
from edgedet.export.checkpoints.training import read_training
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.specs import SPECS, resized


def automl_file(path: Path, model: int = 0) -> Path:
    """A Keras weight file of automl's D0, all zeros; ``model`` counts the models that the session made before it."""
    h5py = pytest.importorskip("h5py", reason="needs the export extra")
    from layouts import LAYOUTS

    with h5py.File(path, "w") as file:
        for name, shape in LAYOUTS["automl"]["efficientdet-d0"].items():
            later = name.replace("/stem/conv2d/", f"/stem_{model}/conv2d_{model}/").replace("/stem/", f"/stem_{model}/")
            file.create_dataset(later if model else name, shape, "f4")
    return path


@pytest.mark.parametrize("model", [1, 27])
def test_a_later_model_of_a_keras_session_is_read(tmp_path, model):
    """Keras then numbers the stem, which has no name of its own: so TensorFlow 2.15 saved automl's second D0."""
    assert load_checkpoint(automl_file(tmp_path / "efficientdet-d0.h5", model)).spec.name == "tf_efficientdet_d0"


def test_automls_advprop_weights_are_never_taken_for_plain_ones_in_silence(tmp_path):
    """They are published under the same names, in another folder."""
    plain = load_checkpoint(automl_file(tmp_path / "efficientdet-d0.h5"))
    assert plain.spec.name == "tf_efficientdet_d0"
    assert "publishes its AdvProp weights under the same names" in plain.notes[0]
    with pytest.raises(CheckpointError, match="may be tf_efficientdet_d0 or tf_efficientdet_d0_ap"):
        load_checkpoint(automl_file(tmp_path / "my_model.h5"))
    advprop = load_checkpoint(tmp_path / "my_model.h5", "tf_efficientdet_d0_ap").spec
    assert advprop.mean_rgb == advprop.std_rgb == (0.5, 0.5, 0.5)
    assert advprop.fill_rgb == (128, 128, 128)  # 0 after the normalisation is 127.5
    (tmp_path / "advprop").mkdir()
    assert load_checkpoint(automl_file(tmp_path / "advprop" / "efficientdet-d0.h5")).spec == advprop


def test_what_automls_file_does_not_say_is_said(tmp_path):
    """All that its hparams may set without a trace in the tensors; the size is said when the model is written."""
    notes = load_checkpoint(automl_file(tmp_path / "efficientdet-d0.h5")).notes
    assert notes[1] == (
        "the file does not say how it was trained, so this is assumed: anchor ratios (w:h) 1:1 1.414:0.7071 "
        "0.7071:1.414, anchor scales 1 1.26 "
        "1.587, fpn_weight_method fastattn, no conv_after_downsample, act_type swish, anchor_scale 4, mean 123.7 116.3 "
        "103.5, std 58.4 57.12 57.38; give --project FILE.yml if it was trained otherwise"
    )


def test_what_a_pytorch_file_does_not_say_is_said_until_it_is_told(tmp_path):
    """zylo117's projects and effdet's train.py take mean and deviation, too."""
    saved(weights_of("tf_efficientdet_d0"), tmp_path / "tf_efficientdet_d0.pth")
    assumed = (
        "the file does not say how it was trained, so this is assumed: {}; give --project FILE.yml if it was trained "
        "otherwise"
    )
    anchors = "anchor ratios (w:h) 1:1 1.4:0.7 0.7:1.4, anchor scales 1 1.26 1.587"
    pixels = "mean 123.7 116.3 103.5, std 58.4 57.12 57.38"
    assert assumed.format(f"{anchors}, {pixels}") in load_checkpoint(tmp_path / "tf_efficientdet_d0.pth").notes
    told = replace(read_training("1:1,1.4:0.7,0.7:1.4", "1,1.26,1.587", None), mean_rgb=(0.5,) * 3)
    notes = load_checkpoint(tmp_path / "tf_efficientdet_d0.pth", training=told).notes
    assert assumed.format("std 58.4 57.12 57.38") in notes


def test_told_anchors_are_part_of_the_spec(tmp_path):
    told = read_training("1:1,1.3:0.8,1.9:0.5", None, None)
    saved(weights_of("tf_efficientdet_d0"), tmp_path / "tf_efficientdet_d0.pth")
    checkpoint = load_checkpoint(tmp_path / "tf_efficientdet_d0.pth", training=told)
    assert checkpoint.spec.aspect_ratios == ((1.0, 1.0), (1.3, 0.8), (1.9, 0.5))
    assert not any("anchor ratios" in note for note in checkpoint.notes)
    assert any("anchor scales 1 1.26 1.587" in note for note in checkpoint.notes)


def test_too_few_names_of_a_project_are_not_blamed_on_another_file(tmp_path):
    saved(weights_of("tf_efficientdet_d0"), tmp_path / "tf_efficientdet_d0.pth")
    told = replace(read_training(None, None, None), class_names=("cat", "dog"))
    with pytest.raises(CheckpointError, match="has 90 classes, but the project gives 2 names"):
        load_checkpoint(tmp_path / "tf_efficientdet_d0.pth", training=told)


def test_another_number_of_anchors_a_cell_wants_to_be_told(tmp_path):
    """Two scales of three ratios: 6 anchors; the box head's bias tells the number."""
    spec = replace(SPECS["tf_efficientdet_d0"], anchor_scales=(1.0, 2**0.5), num_classes=4)
    saved(EfficientDet(spec).state_dict(), tmp_path / "tf_efficientdet_d0.pth")
    with pytest.raises(CheckpointError, match="has 6 anchors a cell, where models have 9: give --anchor-scales"):
        load_checkpoint(tmp_path / "tf_efficientdet_d0.pth")
    told = read_training(None, "1,1.4142135623730951", None)
    assert load_checkpoint(tmp_path / "tf_efficientdet_d0.pth", training=told).spec == spec


def test_a_benchs_anchors_tell_size_and_which_of_two_equal_models(tmp_path):
    from edgedet.anchors import anchors_for

    spec = resized(SPECS["tf_efficientdet_d7"], (384, 640))
    bench = {"model." + name: value for name, value in weights_of("tf_efficientdet_d6").items()}
    saved({**bench, "anchors.boxes": torch.from_numpy(anchors_for(spec))}, tmp_path / "mine.pth")
    assert load_checkpoint(tmp_path / "mine.pth").spec == spec
