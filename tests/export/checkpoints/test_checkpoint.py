"""Which model a weight file is taken for, and what is said of a file that cannot be used.

``python tests/export/checkpoints/test_checkpoint.py`` writes the table of messages in docs/checkpoints.md anew.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from models import saved

from edgedet.errors import CheckpointError, EdgeDetError
from edgedet.export.checkpoints.checkpoint import load_checkpoint
from edgedet.export.checkpoints.registry import PRETRAINED
from edgedet.export.checkpoints.training import read_training
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.files import sha256_of
from edgedet.specs import SPECS, resized

DOCS = Path(__file__).resolve().parents[3] / "docs" / "checkpoints.md"
BEGIN, END = "<!-- messages: begin -->\n", "<!-- messages: end -->"
PREDICT = "class_net.predict.conv_pw"
LATERAL = "fpn.resample.3.conv.conv.weight"  # (64, 320, 1, 1) in D0
STEM = "backbone.conv_stem.weight"


@cache
def weights_of(name: str) -> dict[str, torch.Tensor]:
    """Weights for 90 classes in the canonical layout, all 0: one number a tensor is stored, whatever its shape."""
    with torch.device("meta"):
        state = EfficientDet(SPECS[name]).state_dict()
    return {name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in state.items()}


def d0() -> dict[str, torch.Tensor]:
    return dict(weights_of("tf_efficientdet_d0"))


class RunsACommand:
    def __reduce__(self):
        return os.system, ("true",)


# What is wrong -> (how the file comes about, model that the user named)
CASES: dict[str, tuple[Callable[[Path], None], str | None]] = {}


def case(title: str, wanted: str | None = None):
    def keep(make: Callable[[Path], None]) -> None:
        CASES[title] = (make, wanted)

    return keep


@case("one tensor missing")
def _(path):
    state = d0()
    del state[LATERAL]
    saved(state, path)


@case("one tensor too many")
def _(path):
    saved({**d0(), "fpn.extra.weight": torch.zeros(3)}, path)


@case("one tensor transposed")
def _(path):
    saved({**d0(), LATERAL: d0()[LATERAL].transpose(0, 1)}, path)


@case("one number is NaN")
def _(path):
    saved({**d0(), STEM: d0()[STEM].index_fill(0, torch.tensor(3), float("nan"))}, path)


@case("D1 weights called D0", "tf_efficientdet_d0")
def _(path):
    saved(weights_of("tf_efficientdet_d1"), path)


@case("91 names for 90 classes", "tf_efficientdet_d0")
def _(path):
    saved(d0(), path)
    path.with_suffix(".json").write_text('{"classes": [' + ", ".join(f'"{i}"' for i in range(91)) + "]}")


@case("an archive that grows when it is unpacked")
def _(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), bytes(10_000_000), zipfile.ZIP_DEFLATED)


@case("a pickle that calls os.system")
def _(path):
    saved({**d0(), "x": RunsACommand()}, path)


@case("a whole pickled model")
def _(path):
    torch.save(torch.nn.Linear(2, 2), path)


@case("a file that is cut off")
def _(path):
    saved(d0(), path)
    path.write_bytes(path.read_bytes()[:100_000])


@case("a web page saved as .pth")
def _(path):
    path.write_text("<!DOCTYPE html><html><title>Not found</title></html>")


@case("an empty file")
def _(path):
    path.write_bytes(b"")


@case("D6 and D7, which share all tensors, under a name that does not tell")
def _(path):
    saved(weights_of("tf_efficientdet_d6"), path)


@case("weights of another network")
def _(path):
    saved({"layer1.0.conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(2)}, path)


@case("a backbone without its detector")
def _(path):
    saved({name: value for name, value in d0().items() if name.startswith("backbone.")}, path)


def message_of(title: str, folder: Path) -> str:
    """What is said of one case's file, with the folder taken out."""
    make, wanted = CASES[title]
    make(folder / "weights.pth")
    with pytest.raises(EdgeDetError) as raised:
        load_checkpoint(folder / "weights.pth", wanted)
    assert raised.value.exit_code == 2
    return str(raised.value).replace(f"{folder}{os.sep}", "")


def table_of(messages: dict[str, str]) -> str:
    rows = [f"| {title} | {message.replace('|', '/')} |" for title, message in messages.items()]
    return "\n".join(["| file | message |", "|---|---|", *rows]) + "\n"


def documented() -> dict[str, str]:
    rows = DOCS.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].splitlines()[2:]
    return dict(row.strip("| ").split(" | ") for row in rows)


@pytest.mark.parametrize("title", CASES)
def test_an_unusable_file_is_refused_with_the_documented_message(title, tmp_path):
    message = message_of(title, tmp_path)
    assert "\n" not in message
    assert documented()[title] == message.replace("|", "/")


def test_the_documented_table_has_these_cases_and_no_others():
    assert list(documented()) == list(CASES)


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


def test_averaged_weights_are_used_and_told(tmp_path):
    averaged = {"module." + name: value for name, value in d0().items()}
    averaged["module." + STEM] = averaged["module." + STEM] + 1
    loaded = {"arch": "tf_efficientdet_d0", "state_dict": d0(), "state_dict_ema": averaged}
    saved(loaded, tmp_path / "last.pth.tar")
    checkpoint = load_checkpoint(tmp_path / "last.pth.tar")
    assert torch.equal(checkpoint.state[STEM], d0()[STEM] + 1)
    assert checkpoint.notes[0] == "read state_dict_ema (averaged weights)"


def write_table() -> None:
    """Write the table of messages into docs/checkpoints.md."""
    messages = {}
    for title in CASES:
        with tempfile.TemporaryDirectory() as folder:
            messages[title] = message_of(title, Path(folder))
    text = DOCS.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    DOCS.write_text(before + BEGIN + table_of(messages) + END + after, encoding="utf-8")


if __name__ == "__main__":
    write_table()
