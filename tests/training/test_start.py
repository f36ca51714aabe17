"""Which weights a training starts from: a checkpoint's classes by their names, and ImageNet's backbones."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from training_sets import CLASSES, TINY, tiny_checkpoint

from edgedet.errors import CheckpointError, InputError
from edgedet.export.checkpoints.checkpoint import load_checkpoint
from edgedet.specs import spec_for
from edgedet.training.start import _IN_BLOCK, Start, load_backbone, make_fresh_network, make_starting_network


def test_classes_that_the_checkpoint_knows_keep_their_weights(tmp_path):
    """Of disc and circle the tiny checkpoint knows the first, at slot 1; the other begins by saying nothing."""
    weights = tiny_checkpoint(tmp_path / "t.safetensors")
    notes = []
    network = make_starting_network(Start(str(weights)), ("circle", "disc"), 1, notes.append)
    old = load_checkpoint(weights).state["class_net.predict.conv_pw.weight"].reshape(9, 2, -1)
    new = network.class_net.predict.conv_pw.weight.detach().reshape(9, 2, -1)
    assert torch.equal(new[:, 1], old[:, 1])
    assert not torch.equal(new[:, 0], old[:, 0])
    np.testing.assert_allclose(network.class_net.predict.conv_pw.bias.detach().reshape(9, 2)[:, 0], -4.59512, atol=1e-4)
    assert "knows 1 of the 2 classes" in notes[-1]


def test_a_checkpoint_whose_classes_have_no_names_gets_them_from_a_file(tmp_path):
    """Without the file all classes begin anew, and a line says so and what the checkpoint calls its classes."""
    bare = tiny_checkpoint(tmp_path / "bare.safetensors", ("class_0", "class_1"))
    head = load_checkpoint(bare).state["class_net.predict.conv_pw.weight"]
    (tmp_path / "names.txt").write_text("square\ndisc\n", encoding="utf-8")
    notes = []
    for names, kept in ((None, False), (tmp_path / "names.txt", True)):
        network = make_starting_network(Start(str(bare), names=names), CLASSES, 1, notes.append)
        new = network.class_net.predict.conv_pw.weight.detach()
        assert torch.equal(new, head) == kept
    (line,) = [note for note in notes if "random" in note]
    assert "none of the 2 classes by name (its own: class_0, class_1)" in line


def test_what_fits_of_another_model_is_taken(tmp_path):
    """Lite0 lacks the D0's squeeze-and-excitation and fusion weights and has all else, in the same shapes."""
    torch.manual_seed(3)
    d0 = make_fresh_network(replace(spec_for("tf_efficientdet_d0"), num_classes=2))
    state = {key: value for key, value in d0.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "my.pth")  # a file that may be tf_efficientdet_d0_ap's as well
    (tmp_path / "my.names").write_text("\n".join(CLASSES), encoding="utf-8")
    notes = []
    start = Start(transfer=str(tmp_path / "my.pth"), variant="tf_efficientdet_lite0")
    network = make_starting_network(start, CLASSES[::-1], 1, notes.append)
    assert network.spec.name == "tf_efficientdet_lite0"
    weights = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    same = [key for key, value in weights.items() if key in state and torch.equal(value, state[key])]
    assert set(weights) - set(same) == {"class_net.predict.conv_pw.weight"}  # its classes are in another order
    old, new = (table["class_net.predict.conv_pw.weight"].reshape(9, 2, -1) for table in (state, weights))
    assert torch.equal(new, old.flip(1))
    assert f"gives {len(weights)} of the {len(weights)} tensors of tf_efficientdet_lite0" in notes[-1]


def test_a_model_of_which_little_fits_is_refused(tmp_path):
    start = Start(transfer=str(tiny_checkpoint(tmp_path / "tiny.safetensors")), phi=0)
    with pytest.raises(InputError, match="tensors of tf_efficientdet_d0 in the same shape"):
        make_starting_network(start, CLASSES, 1, print)
    with pytest.raises(InputError, match="--transfer needs --phi N or --variant NAME"):
        make_starting_network(replace(start, phi=None), CLASSES, 1, print)


def test_an_imagenet_classifier_is_read_in_both_spellings(tmp_path):
    """timm's names and lukemelas' give the same backbone; another network's weights are refused."""
    source, timm_like = make_fresh_network(TINY), {}
    for key, value in source.backbone.state_dict().items():
        timm_like[key] = value.clone() if "num_batches" in key else torch.rand_like(value)
    flat, number = {}, 0
    for stage, blocks in enumerate(source.backbone.stages):
        for at, block in enumerate(blocks):
            for theirs, ours in _IN_BLOCK.items():
                name = ours[0 if block.expands else 1]
                for key, value in timm_like.items():
                    if name and key.startswith(f"blocks.{stage}.{at}.{name}."):
                        flat[f"_blocks.{number}.{theirs}.{key.rsplit('.', 1)[1]}"] = value
            number += 1
    for key, value in timm_like.items():
        if key.startswith(("conv_stem.", "bn1.")):
            flat["_" + key.replace("bn1", "bn0")] = value
    for name, state in (("timm", timm_like), ("lukemelas", flat)):
        torch.save({**state, "_fc.bias": torch.zeros(3)}, tmp_path / f"{name}.pth")
        network = make_fresh_network(TINY)
        load_backbone(network, tmp_path / f"{name}.pth")
        for key, value in network.backbone.state_dict().items():
            if "num_batches" not in key:
                assert torch.equal(value, timm_like[key]), (name, key)
    with pytest.raises(CheckpointError, match="no classifier EfficientNet-B0"):
        load_backbone(make_fresh_network(replace(TINY, backbone="b0")), tmp_path / "timm.pth")
