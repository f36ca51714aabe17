"""What is told of a training: options, zylo117's project files and automl's hparams files, whole and broken."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("yaml", reason="needs the export extra")

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.training import UNTOLD, read_project, read_training
from edgedet.specs import THIRD_OCTAVES

# as projects/logo.yml of zylo117, whose own code passes the two texts to eval
LOGO = """
project_name: logo
mean: [ 0.485, 0.456, 0.406 ]
std: [ 0.229, 0.224, 0.225 ]
anchors_scales: '[2 ** 0, 2 ** (1.0 / 3.0), 2 ** (2.0 / 3.0)]'
anchors_ratios: '[(1.0, 1.0), (1.3, 0.8), (1.9, 0.5)]'
obj_list: [ 'adidas0', '', 'chanel' ]
"""
HPARAMS = """
aspect_ratios: [1.0, 4.0, [0.7, 1.4]]
num_scales: 2
anchor_scale: 3.0
fpn_weight_method: attn
conv_after_downsample: true
mean_rgb: 127.5
stddev_rgb: [127.5, 127.5, 127.5]
image_size: 640x320
label_map: {1: cat, 2: dog}
learning_rate: 0.1
"""


def project(tmp_path, text):
    path = tmp_path / "project.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_zylo117_project_tells_anchors_normalisation_and_names(tmp_path):
    told = read_project(project(tmp_path, LOGO))
    assert told.aspect_ratios == ((1.0, 1.0), (1.3, 0.8), (1.9, 0.5))
    assert told.anchor_scales == THIRD_OCTAVES
    assert told.mean_rgb == (0.485, 0.456, 0.406)
    assert told.class_names == ("adidas0", "unused_2", "chanel")
    assert told.spec_changes["fill_rgb"] == (124, 116, 104)


def test_an_automl_hparams_file_tells_what_its_tensors_do_not(tmp_path):
    """Ratio 4 is twice as wide as the square root, and half as high."""
    told = read_project(project(tmp_path, HPARAMS))
    assert told.aspect_ratios == ((1.0, 1.0), (2.0, 0.5), (0.7, 1.4))
    assert told.anchor_scales == (1.0, 2**0.5)
    assert (told.anchor_scale, told.fusion, told.pool_first) == (3.0, "attn", True)
    assert told.mean_rgb == told.std_rgb == (0.5, 0.5, 0.5)
    assert told.input_hw == (320, 640)
    assert told.class_names == ("cat", "dog")


def test_options_say_the_same(tmp_path):
    told = read_training("1:1,1.3:0.8", "1,1.5", None)
    assert told.aspect_ratios == ((1.0, 1.0), (1.3, 0.8))
    assert told.anchor_scales == (1.0, 1.5)
    assert read_training(None, None, None) == UNTOLD


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[1, 2]", "is no project file"),
        ("a: [", "as YAML"),
        ("anchors_ratios: '__import__(\"os\").getcwd()'", "is no list of numbers"),
        ("anchors_ratios: '[(9 ** 9 ** 9, 1)]'", "is no list of numbers"),
        ("anchors_ratios: '[(1 / 0, 1)]'", "is no list of numbers"),
        ("anchors_ratios: '[(1, 2, 3)]'", "pairs of width and height"),
        ("anchors_ratios: '[(1, 0)]'", "factors above 0"),
        ("anchors_ratios: '" + "(" * 500 + "'", "is no list of numbers"),
        ("fpn_weight_method: channel_attn", "edgedet builds attn, fastattn, sum only"),
        ("separable_conv: false", "a network that edgedet does not build"),
        ("anchor_scale: [1, 2, 3, 4, 5]", "an anchor_scale for each level"),
        ("num_scales: two", "wanted a number from 1 to 16"),
        ("num_scales: 1000000000", "wanted a number from 1 to 16"),
        ("num_scales: .inf", "wanted a number from 1 to 16"),
        ("anchor_scale: .nan", "wanted a number above 0"),
        ("aspect_ratios: [0, 1, 2]", "cannot be understood"),
        ("image_size: -512", "wanted from 128 pixels a side on"),
        ("image_size: 0", "wanted from 128 pixels a side on"),
        ("image_size: 99999999", "wanted from 128 pixels a side on"),
        ("mean_rgb: .nan", "wanted shares of white, which is 255 there"),
        ("stddev_rgb: 0", "wanted shares of white, which is 255 there"),
        ("anchors_ratios: '[(1, 1)]'\nmean: [123.7, 116.3, 103.5]", "wanted shares of white, which is 1 there"),
        ("anchors_ratios: '[(1, 1)]'\nstd: [-0.2, 0.2, 0.2]", "wanted shares of white, which is 1 there"),
        ("anchors_ratios: '[(1, 1)]'\nobj_list: {cat: 1}", "wanted a list of names"),
        ("conv_after_downsample: maybe", "a network that edgedet does not build"),
        ("image_size: 5x5x5", "cannot be understood"),
    ],
)
def test_a_project_that_cannot_be_used_is_refused_in_one_line(tmp_path, text, complaint):
    with pytest.raises(CheckpointError, match=complaint) as raised:
        read_project(project(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_a_missing_or_endless_project_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is no project file"):
        read_project(tmp_path / "missing.yml")
    with pytest.raises(CheckpointError, match="is no project file"):
        read_project(project(tmp_path, "#" * (1 << 20) + "\n"))


@pytest.mark.parametrize("ratios", ["1", "1:2:3", "a:b", "", "1:1,0:1"])
def test_ratios_of_another_form_are_refused(ratios):
    with pytest.raises(CheckpointError, match="--anchor-ratios"):
        read_training(ratios, None, None)


def test_saying_it_twice_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="say the same thing"):
        read_training("1:1", None, project(tmp_path, LOGO))
