"""COCO's class slots, and exports of some classes only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from models import (
    random_network,
    random_pixels,
    run_onnx,
    saved,
)

from edgedet.cli import main
from edgedet.errors import InputError
from edgedet.export.checkpoints.checkpoint import Checkpoint, load_checkpoint, network_from_checkpoint
from edgedet.export.checkpoints.select_classes import PREDICTION, with_classes
from edgedet.export.network.efficientdet import EfficientDet
from edgedet.info.info import info_of
from edgedet.judge.coco import COCO_SLOTS, is_gap
from edgedet.judge.labels import Dataset, match_classes
from edgedet.specs import SPECS

D0 = SPECS["tf_efficientdet_d0"]


@pytest.fixture(scope="module")
def full() -> Checkpoint:
    """A random D0 of COCO's 90 slots for small pictures."""
    spec = replace(D0, input_hw=(128, 160))
    state = {key: value for key, value in random_network(spec).state_dict().items() if value.is_floating_point()}
    return Checkpoint(state, spec, COCO_SLOTS, "ab" * 32)


def test_a_slot_is_the_label_id_less_one_and_gaps_are_named_so():
    assert len(COCO_SLOTS) == len(set(COCO_SLOTS)) == 90
    named = {
        0: "person",
        2: "car",
        9: "traffic light",
        11: "unused_12",
        12: "stop sign",
        43: "bottle",
        61: "chair",
        69: "toilet",
        71: "tv",
        81: "refrigerator",
        83: "book",
        89: "toothbrush",
    }
    assert {slot: COCO_SLOTS[slot] for slot in named} == named
    assert sum(map(is_gap, COCO_SLOTS)) == 10
    assert [is_gap(name) for name in ("unused_12", "unused_13", "person")] == [True, False, False]


def test_ninety_classes_without_names_are_cocos_and_this_is_said(tmp_path: Path):
    saved(EfficientDet(D0).state_dict(), tmp_path / "tf_efficientdet_d0_mine.pth")
    checkpoint = load_checkpoint(tmp_path / "tf_efficientdet_d0_mine.pth")
    assert checkpoint.class_names == COCO_SLOTS
    assert checkpoint.notes[-1] == (
        "the file names none of its 90 classes, so they are taken for COCO's: give --names FILE if they are others"
    )
    (tmp_path / "own.names").write_text("\n".join(f"card {number}" for number in range(90)))
    named = load_checkpoint(tmp_path / "tf_efficientdet_d0_mine.pth", names_file=tmp_path / "own.names")
    assert named.class_names[:2] == ("card 0", "card 1")
    assert not any("COCO" in note for note in named.notes)


def test_eighty_classes_without_names_stay_numbers(tmp_path: Path):
    saved(EfficientDet(replace(D0, num_classes=80)).state_dict(), tmp_path / "tf_efficientdet_d0_mine.pth")
    checkpoint = load_checkpoint(tmp_path / "tf_efficientdet_d0_mine.pth")
    assert checkpoint.class_names[79] == "class_79"
    assert not any("COCO" in note for note in checkpoint.notes)


def test_cocos_eighty_categories_find_their_slots_by_name():
    """In the order of COCO's own files, by id."""
    slots = [slot for slot, name in enumerate(COCO_SLOTS) if not is_gap(name)]
    data = Dataset((), tuple(COCO_SLOTS[slot] for slot in slots), tuple(slot + 1 for slot in slots))
    assert match_classes(data, COCO_SLOTS) == tuple(slots)
    assert slots[-1] == 89


def test_eval_does_not_speak_of_gaps():
    from edgedet.judge.evaluate import describe_left_out, find_unmatched_classes

    names = tuple(name for name in COCO_SLOTS if not is_gap(name))
    data = Dataset((), names)
    left_out = find_unmatched_classes(data, match_classes(data, COCO_SLOTS), COCO_SLOTS)
    assert left_out == {"data": [], "model": []}
    assert describe_left_out(left_out, data.unlabelled) == []


@torch.inference_mode()
def test_kept_classes_score_as_before(full: Checkpoint):
    few = with_classes(full, ["Car", " person", "toothbrush"])
    assert few.class_names == ("car", "person", "toothbrush")
    assert few.spec.num_classes == 3
    assert few.state[f"{PREDICTION}.weight"].shape == (27, 64, 1, 1)
    picture = torch.randn(1, 3, *full.spec.input_hw)
    logits, codes = network_from_checkpoint(full)(picture)
    kept_logits, kept_codes = network_from_checkpoint(few)(picture)
    torch.testing.assert_close(kept_logits, logits[..., [2, 0, 89]], rtol=1e-6, atol=1e-6)
    assert torch.equal(kept_codes, codes)
    assert full.state[f"{PREDICTION}.bias"].shape == (810,)


def test_the_exported_graph_scores_as_before_and_computes_no_other_class(full: Checkpoint):
    few = with_classes(full, ["person", "car"])
    pixels = random_pixels(full.spec)
    logits, codes = run_onnx(network_from_checkpoint(full), pixels)
    kept_logits, kept_codes = run_onnx(network_from_checkpoint(few), pixels)
    assert kept_logits.shape == (*logits.shape[:2], 2)
    tolerance = 1e-6 * abs(logits).max()
    assert abs(kept_logits - logits[..., [0, 2]]).max() <= tolerance
    assert abs(kept_codes - codes).max() <= 1e-6 * abs(codes).max()


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        (["persn"], "the model has no class 'persn'; near it are person."),
        (["light"], "the model has no class 'light'; near it are traffic light."),
        (["xyzzy"], "the model has no class 'xyzzy'; it has person, bicycle, car, motorcycle, airplane and 85 more"),
        (["car", "CAR"], "--classes names 'car' twice"),
        ([" ", ""], "--classes wants names, for example --classes person."),
    ],
)
def test_names_that_cannot_be_kept_are_refused(full: Checkpoint, wanted: list[str], complaint: str):
    with pytest.raises(InputError) as raised:
        with_classes(full, wanted)
    assert str(raised.value).startswith(complaint)


def test_export_takes_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names = tmp_path / "two.names"
    names.write_text("cat\ndog\n")
    state = random_network(replace(D0, num_classes=2, input_hw=(128, 128))).state_dict()
    saved({key: value for key, value in state.items() if value.is_floating_point()}, tmp_path / "two.pth")
    command = ["export", "--weights", str(tmp_path / "two.pth"), "--names", str(names), "--size", "128"]
    command += ["--out", str(tmp_path), "--threads", "1", "--phi", "0"]
    assert main([*command, "--classes", "dog"]) == 0
    assert info_of(tmp_path / "two.onnx").class_names == ("dog",)
    assert main([*command, "--classes", "dgo", "--name", "other"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "edgedet: the model has no class 'dgo'; near it are dog."
    assert not (tmp_path / "other.onnx").exists()
