"""Which model a weight file is taken for."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
from models import saved
from zero_weights import STEM, d0, weights_of

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.checkpoint import load_checkpoint
from edgedet.export.checkpoints.registry import PRETRAINED
from edgedet.files import sha256_of
from edgedet.specs import SPECS


@pytest.mark.parametrize(
    ("file", "holds", "wanted", "exact", "found"),
    [
        ("tf_efficientdet_d0_34-f153e0cf.pth", "tf_efficientdet_d0", None, True, "tf_efficientdet_d0"),
        ("tf_efficientdet_d0_ap-d0cdbd0a.pth", "tf_efficientdet_d0", None, True, "tf_efficientdet_d0_ap"),
        ("mine.pth", "tf_efficientdet_d0", "tf_efficientdet_d0_ap", True, "tf_efficientdet_d0_ap"),
        ("mine.pth", "tf_efficientdet_d0", "tf_efficientdet_d0", False, "tf_efficientdet_d0"),  # --phi 0
        ("tf_efficientdet_d0_ap-mine.pth", "tf_efficientdet_d0", "tf_efficientdet_d0", False, "tf_efficientdet_d0_ap"),
        ("efficientdet-d7_3_400.pth", "tf_efficientdet_d6", None, True, "tf_efficientdet_d7"),
        ("tf_efficientdet_d7.pth", "tf_efficientdet_d6", "tf_efficientdet_d6", False, "tf_efficientdet_d6"),
        ("tf_efficientdet_d1.pth", "tf_efficientdet_lite3", None, True, "tf_efficientdet_lite3"),
    ],
)
def test_option_then_name_decide_between_models_of_equal_tensors(tmp_path, file, holds, wanted, exact, found):
    saved(weights_of(holds), tmp_path / file)
    spec = load_checkpoint(tmp_path / file, wanted, exact=exact).spec
    assert spec == SPECS[found]


def test_a_model_that_may_have_been_trained_with_advprop_is_refused_without_a_name(tmp_path):
    """Its normalisation differs, and nothing in the tensors tells: a guess would lose accuracy in silence."""
    saved(weights_of("tf_efficientdet_d0"), tmp_path / "mine.pth")
    with pytest.raises(CheckpointError, match="may be tf_efficientdet_d0 or tf_efficientdet_d0_ap: .* --variant NAME"):
        load_checkpoint(tmp_path / "mine.pth")


def test_an_official_file_is_known_by_its_hash_under_any_name(tmp_path, monkeypatch):
    saved(weights_of("tf_efficientdet_d0"), tmp_path / "mine.pth")
    name = f"tf_efficientdet_d0_ap-{sha256_of(tmp_path / 'mine.pth')[:8]}.pth"
    monkeypatch.setitem(PRETRAINED, "tf_efficientdet_d0_ap", name)
    assert load_checkpoint(tmp_path / "mine.pth").spec.name == "tf_efficientdet_d0_ap"


def without_redundant_biases(name: str) -> dict[str, torch.Tensor]:
    norms = (".conv.conv.bias", ".after_combine.conv.conv_pw.bias", ".conv_rep.0.conv_pw.bias")
    norms += (".conv_rep.1.conv_pw.bias", ".conv_rep.2.conv_pw.bias")
    return {key: value for key, value in weights_of(name).items() if not key.endswith(norms)}


@pytest.mark.parametrize(
    ("wanted", "exact", "found"),
    [
        (None, True, "efficientdet_d0"),
        ("tf_efficientdet_d0", False, "efficientdet_d0"),  # --phi 0
        ("efficientdet_d0", True, "efficientdet_d0"),
        ("tf_efficientdet_d0", True, "tf_efficientdet_d0"),  # trained with redundant_bias=False
    ],
)
def test_weights_without_redundant_biases_are_effdets_symmetric_models(tmp_path, wanted, exact, found):
    saved(without_redundant_biases("tf_efficientdet_d0"), tmp_path / "mine.pth")
    checkpoint = load_checkpoint(tmp_path / "mine.pth", wanted, exact=exact)
    assert checkpoint.spec == SPECS[found]
    assert "no biases before BatchNorms" in checkpoint.notes[0]
    assert not checkpoint.state["fpn.resample.3.conv.conv.bias"].any()


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("efficientdet_d4.pth", "efficientdet_d4"),
        ("efficientdet_d4-0a1b2c3d.pth", "efficientdet_d4"),
        ("tf_efficientdet_d4.pth", "tf_efficientdet_d4"),
    ],
)
def test_a_name_tells_effdets_own_d4_from_tensorflows(tmp_path, file, found):
    """All tensors are shared; the backbone's padding and BatchNorm epsilon are not."""
    saved(weights_of("tf_efficientdet_d4"), tmp_path / file)
    for wanted in (None, "tf_efficientdet_d4"):  # the latter as of --phi 4
        assert load_checkpoint(tmp_path / file, wanted, exact=False).spec == SPECS[found]
    assert SPECS["efficientdet_d4"].backbone_padding == "symmetric"


def test_d4_under_a_name_that_does_not_tell_is_refused(tmp_path):
    saved(weights_of("tf_efficientdet_d4"), tmp_path / "mine.pth")
    expected = "may be tf_efficientdet_d4 or efficientdet_d4 or tf_efficientdet_d4_ap: .* padding or normalisation"
    with pytest.raises(CheckpointError, match=expected):
        load_checkpoint(tmp_path / "mine.pth")


def test_what_a_size_alone_leaves_open_is_said(tmp_path):
    saved(weights_of("tf_efficientdet_d4"), tmp_path / "mine.pth")
    checkpoint = load_checkpoint(tmp_path / "mine.pth", "tf_efficientdet_d4", exact=False)  # --phi 4
    assert checkpoint.spec.name == "tf_efficientdet_d4"
    assert (
        "the file is taken for tf_efficientdet_d4, but its tensors fit efficientdet_d4 or tf_efficientdet_d4_ap"
        in checkpoint.notes[0]
    )


def test_a_name_that_only_lacks_tf_is_taken_and_said(tmp_path):
    saved(weights_of("tf_efficientdet_d0"), tmp_path / "efficientdet_d0.pth")
    checkpoint = load_checkpoint(tmp_path / "efficientdet_d0.pth")
    assert checkpoint.spec.name == "tf_efficientdet_d0"
    assert (
        "the file is taken for tf_efficientdet_d0, but its tensors fit tf_efficientdet_d0_ap as well"
        in checkpoint.notes[0]
    )


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"class_net.predict.conv.weight": torch.zeros(1)}, "its heads are full convolutions"),  # es, em, resdet50
        ({STEM: None, "class_net.predict.conv_pw.weight": torch.zeros(1)}, f"its backbone has no {STEM}"),
    ],
)
def test_effdets_models_of_another_design_are_refused_with_the_reason(tmp_path, changed, part):
    state = {key: value for key, value in {**d0(), **changed}.items() if value is not None}
    saved(state, tmp_path / "efficientdet_es.pth")
    with pytest.raises(CheckpointError, match=f"a model of effdet with another design: {part}. edgedet builds"):
        load_checkpoint(tmp_path / "efficientdet_es.pth")


def test_the_part_that_fits_no_model_is_named(tmp_path):
    """efficientdet_q0 has 21 nodes in a cell of its pyramid."""
    extra = {f"fpn.cell.{c}.fnode.{n}.combine.edge_weights": torch.ones(2) for c in range(3) for n in range(8, 60)}
    saved({**d0(), **extra}, tmp_path / "efficientdet_q0.pth")
    with pytest.raises(
        CheckpointError, match=r"fits no EfficientDet of the family .*: its BiFPN is of another design; nea"
    ):
        load_checkpoint(tmp_path / "efficientdet_q0.pth")


def test_averaged_weights_are_used_and_told(tmp_path):
    averaged = {"module." + name: value for name, value in d0().items()}
    averaged["module." + STEM] = averaged["module." + STEM] + 1
    loaded = {"arch": "tf_efficientdet_d0", "state_dict": d0(), "state_dict_ema": averaged}
    saved(loaded, tmp_path / "last.pth.tar")
    checkpoint = load_checkpoint(tmp_path / "last.pth.tar")
    assert torch.equal(checkpoint.state[STEM], d0()[STEM] + 1)
    assert checkpoint.notes[0] == "read state_dict_ema (averaged weights)"
