"""``edgedet import``: own files hold what each family's checkpoint held, and a refused one leaves nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from layouts import source_arrays
from models import saved

from edgedet.cli import main
from edgedet.errors import CheckpointError, InputError
from edgedet.export.checkpoints.checkpoint import load_checkpoint
from edgedet.export.checkpoints.import_checkpoint import import_checkpoint
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.files import sha256_of
from edgedet.info.info import info_of
from edgedet.judge.coco import COCO_SLOTS
from edgedet.specs import SPECS

CLASSES = 3


@pytest.fixture
def zylo117(tmp_path: Path) -> Path:
    """compound_coef 1 for 3 classes."""
    saved(source_arrays("zylo117", "1", CLASSES, 1.0), tmp_path / "efficientdet-d1.pth")
    return tmp_path / "efficientdet-d1.pth"


def h5_of(path: Path, variant: str) -> Path:
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    with h5py.File(path, "w") as file:
        for name, array in source_arrays("automl", variant, 90, 1.0).items():
            file[name] = array
    return path


def check_same_as_source(source: Path, own: Path) -> None:
    """Weights bit by bit, and everything that is known of them."""
    wanted, got = load_checkpoint(source), load_checkpoint(own)
    assert (got.spec, got.class_names, got.sha256) == (wanted.spec, wanted.class_names, sha256_of(source))
    assert got.state.keys() == wanted.state.keys()
    assert all(torch.equal(got.state[key], wanted.state[key]) for key in wanted.state)


def test_a_zylo117_file_keeps_its_familys_ways(zylo117: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    own = tmp_path / "d1.safetensors"
    assert main(["import", str(zylo117), "-o", str(own)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(
        f"recognised {zylo117}: zylo117 tf_efficientdet_d1 (compared with its own code: numbers), 640x640, "
        "3 classes, 6."
    )
    assert out[1] == f"wrote {own}: {own.stat().st_size / 1e6:.1f} MB"
    check_same_as_source(zylo117, own)
    assert load_checkpoint(own).spec.pool_padding == "zeros"
    info = info_of(own)
    assert (info.family, info.source_sha256, info.classes) == ("zylo117", sha256_of(zylo117), CLASSES)


def test_an_effdet_file_and_its_names(tmp_path: Path):
    source = tmp_path / "tf_efficientdet_d0_a.pth"
    saved(EfficientDet(SPECS["tf_efficientdet_d0"]).state_dict(), source)
    result = import_checkpoint(source, tmp_path / "a.safetensors")
    assert (result.family, result.variant, result.compared) == ("effdet", "tf_efficientdet_d0", "numbers")
    check_same_as_source(source, tmp_path / "a.safetensors")
    assert load_checkpoint(tmp_path / "a.safetensors").class_names == COCO_SLOTS
    assert load_checkpoint(tmp_path / "a.safetensors").notes == ()  # the names are the file's own now


def test_a_keras_file(tmp_path: Path):
    source = h5_of(tmp_path / "efficientdet-lite0.h5", "efficientdet-lite0")
    import_checkpoint(source, tmp_path / "a.safetensors")
    check_same_as_source(source, tmp_path / "a.safetensors")
    assert load_checkpoint(tmp_path / "a.safetensors").spec.family == "automl"


def test_options_decide_and_json_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    saved(EfficientDet(replace(SPECS["tf_efficientdet_d0"], num_classes=2)).state_dict(), tmp_path / "a.pth")
    (tmp_path / "own.names").write_text("cat\ndog\n")
    command = ["import", str(tmp_path / "a.pth"), "-o", str(tmp_path / "a.safetensors"), "--json"]
    assert main([*command, "--variant", "tf_efficientdet_d0_ap", "--names", str(tmp_path / "own.names")]) == 0
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    assert "recognised" in printed.err
    assert (figures["variant"], figures["classes"]) == ("tf_efficientdet_d0_ap", 2)
    assert figures["sha256"] == sha256_of(tmp_path / "a.safetensors")
    assert load_checkpoint(tmp_path / "a.safetensors").class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("output", "options", "complaint"),
    [
        ("a.pth", (), "edgedet import writes files ending in .safetensors; got -o "),
        ("a.safetensors", ("--variant", "d1"), "unknown model 'd1'"),
        ("a.safetensors", ("--variant", "tf_efficientdet_d0"), "does not hold tf_efficientdet_d0"),
        (
            "a.safetensors",
            ("--names", "missing.names"),
            "cannot read missing.names: No such file or directory",
        ),
    ],
)
def test_what_cannot_be_imported_leaves_nothing(
    output: str,
    options: tuple[str, ...],
    complaint: str,
    zylo117: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert main(["import", str(zylo117), "-o", str(tmp_path / output), *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert complaint in printed.err
    assert list(tmp_path.iterdir()) == [zylo117]


def test_names_beside_the_checkpoint_are_used_also_with_a_byte_order_mark(zylo117: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(zylo117)
    expected = [f"class {number}" for number in range(checkpoint.spec.num_classes)]
    zylo117.with_suffix(".names").write_text("\n".join(expected), encoding="utf-8-sig")
    named = load_checkpoint(zylo117)
    assert list(named.class_names) == expected
    assert f"the class names are read from {zylo117.with_suffix('.names')}" in named.notes


def test_class_names_with_escape_codes_and_endless_files_are_refused(zylo117: Path, tmp_path: Path) -> None:
    count = load_checkpoint(zylo117).spec.num_classes
    names = tmp_path / "evil.names"
    names.write_text("\n".join(["\x1b[2Jcat", *(f"class {number}" for number in range(count - 1))]))
    with pytest.raises(CheckpointError, match="holds control characters: leave them out"):
        load_checkpoint(zylo117, names_file=names)
    with pytest.raises(InputError, match="/dev/zero is no regular file"):
        load_checkpoint(zylo117, names_file=Path("/dev/zero"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda name, value: value.round().to(torch.int64), "but weights are floating-point numbers"),
        (lambda name, value: -value - 1 if name.endswith("running_var") else value, "holds negative variances in "),
    ],
)
def test_weights_that_no_training_leaves_are_refused(change, complaint: str, zylo117: Path, tmp_path: Path) -> None:
    state = torch.load(zylo117, weights_only=True)
    torch.save({name: change(name, value) for name, value in state.items()}, tmp_path / "efficientdet-d0.pth")
    with pytest.raises(CheckpointError, match=complaint):
        load_checkpoint(tmp_path / "efficientdet-d0.pth")
