"""Which model a weight file is taken for, and what is said of a file that cannot be used.

``python tests/export/test_checkpoint.py`` writes the table of messages in docs/checkpoints.md anew.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from models import saved

from edgedet.errors import CheckpointError, EdgeDetError
from edgedet.export.checkpoints import checkpoint as checkpoint_module
from edgedet.export.checkpoints.checkpoint import load_checkpoint
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.files import sha256_of
from edgedet.specs import SPECS, resized

DOCS = Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md"
BEGIN, END = "<!-- messages: begin -->\n", "<!-- messages: end -->"
PREDICT = "class_net.predict.conv_pw"
LATERAL = "fpn.resample.3.conv.conv.weight"  # (64, 320, 1, 1) in D0
STEM = "backbone.conv_stem.weight"


@cache
def weights_of(name: str) -> dict[str, torch.Tensor]:
    """Random weights for 90 classes, in the canonical layout."""
    return EfficientDet(SPECS[name]).state_dict()


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
    monkeypatch.setitem(checkpoint_module.PRETRAINED, "tf_efficientdet_d0_ap", name)
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
