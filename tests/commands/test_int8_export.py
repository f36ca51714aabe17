"""`edgedet export --int8`: files that passed their gate, and none that did not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")

from edgedet import demo
from edgedet.calibration import quantise as steps
from edgedet.calibration.ranges import refine
from edgedet.calibration.ranges.frames import FrameSets, sha256_of_frame
from edgedet.cli import main
from edgedet.engines.base import open_engine
from edgedet.export.int8.gate import Gate, leave_out_labelled
from edgedet.judge.gate.verdict import MIN_BOXES, MIN_KEPT, Verdict
from edgedet.judge.labels import Dataset, LabelledImage
from edgedet.preprocess import Preprocessor
from edgedet.specs import SPECS, resized
from edgedet.types import ModelInput

INT8 = ["export", "--phi", "0", "--int8", "--weights", "demo", "--threads", "1"]
CLIPS_ASPECT = ["--size", "288x384"]  # no border to compute, and enough boxes for a verdict
SMALL = ["--size", "128x128"]  # where nothing need be detected
FILES = ("_int8.onnx", "_int8_fp16.onnx", "_int8.tflite")


@pytest.fixture(autouse=True)
def one_range_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one frame: it takes most of calibration's time, and has tests of its own."""
    for name in ("WORST_DENSE", "WORST_SPARSE", "MOST_FRAMES"):
        monkeypatch.setattr(refine, name, 1)


@pytest.fixture
def few_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one range is one of three, not of all: enough where accuracy is not shown."""
    monkeypatch.setattr(refine, "RANKED", 3)


@pytest.mark.slow  # half a minute; the next test exports all three files as well, without asking for a verdict
@pytest.mark.usefixtures("few_are_ranked")
def test_the_demo_becomes_three_int8_files_that_passed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More than half the model's own size, at which tests/release/test_readme.py exports; enough for 50 objects.

    85 % of the MACs are INT8 for TensorRT, all for TFLite.
    """
    assert main([*INT8, *CLIPS_ASPECT, "--frames", "24", "--out", str(tmp_path), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["int8"]
    assert [Path(item["path"]).name for item in written] == [demo.MODEL_NAME + suffix for suffix in FILES]
    for item, share in zip(written, (0.85, 0.85, 0.99), strict=True):
        meta, engine = open_engine(item["path"], threads=1)
        engine.close()
        assert item["int8_mac_share"] >= share
        assert meta.precision == "int8"
        assert meta.report["gate"]["verdict"] == "PASSED"
        assert meta.report["gate"]["value"] >= MIN_KEPT
        assert meta.report["gate"]["boxes"] >= MIN_BOXES
        assert meta.report["frames"]["calibrate"] == 12
        assert meta.report["gate"]["images"] <= meta.report["frames"]["gate"] == 22


@pytest.mark.usefixtures("few_are_ranked")
def test_a_table_gives_the_same_file_again(tmp_path: Path) -> None:
    common = [*INT8, *SMALL, "--frames", "6", "--force", "--out"]
    assert main([*common, str(tmp_path / "a"), "--pictures"]) == 0
    assert (tmp_path / f"a/{demo.MODEL_NAME}_int8.tflite.boxes.jpg").stat().st_size > 10_000
    table = tmp_path / "a" / f"{demo.MODEL_NAME}_int8.table.json"
    assert main([*common, str(tmp_path / "b"), "--table", str(table)]) == 0
    first, second = (tmp_path / folder / f"{demo.MODEL_NAME}_int8.tflite" for folder in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(("frames", "reason"), [("6", "objects in 2 frames, 50 are needed"), ("1", "no frame is left")])
def test_too_few_boxes_are_no_verdict_and_no_file(
    frames: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before the calibration. Not even an earlier export's file stays: it would be taken for this one."""
    monkeypatch.setattr("edgedet.export.int8.export_int8.quantise", None)
    (tmp_path / f"{demo.MODEL_NAME}_int8.tflite").write_bytes(b"of other weights")
    assert main([*INT8, *SMALL, "--frames", frames, "--out", str(tmp_path)]) == 3
    said = capsys.readouterr().err
    assert "UNSURE" in said
    assert reason in said
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(FILES)]


@pytest.mark.slow
@pytest.mark.usefixtures("few_are_ranked")
def test_the_files_that_passed_stay_where_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the three is told to be unsure: it is kept aside on request, the command says why and exits with 1."""
    honest = Gate.judge

    def judge(self: Gate, path: Path) -> Verdict:
        verdict = honest(self, path)
        fates = (
            {"verdict": "UNSURE", "reason": "for the test", "remedy": "9 more frames"}
            if path.suffix == ".tflite"
            else {"verdict": "PASSED", "reason": "", "remedy": ""}
        )
        return replace(verdict, **fates)

    monkeypatch.setattr(Gate, "judge", judge)
    command = [*INT8, *SMALL, "--frames", "10", "--out", str(tmp_path), "--keep-rejected", "--json"]
    assert main(command) == 1
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert [Path(item["path"]).name for item in result["int8"]] == [demo.MODEL_NAME + suffix for suffix in FILES[:2]]
    (refused,) = result["refused"]
    rejected = tmp_path / f"{demo.MODEL_NAME}_int8.tflite.rejected"
    assert (refused["kept_as"], refused["gate"]["verdict"]) == (str(rejected), "UNSURE")
    assert (
        f"1 of 3 INT8 files were refused: {demo.MODEL_NAME}_int8.tflite UNSURE (for the test; 9 more frames; "
        f"kept as {rejected}). edgedet export --force keeps files whose verdict is UNSURE." in said.err
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"{demo.MODEL_NAME}.onnx", f"{demo.MODEL_NAME}_int8.table.json", rejected.name]
        + [demo.MODEL_NAME + suffix for suffix in FILES[:2]]
    )
    usable = rejected.with_suffix("")
    rejected.rename(usable)
    meta, engine = open_engine(usable, threads=1)
    engine.close()
    assert meta.report["gate"]["reason"] == "for the test"


@pytest.mark.slow
@pytest.mark.usefixtures("few_are_ranked")
def test_a_ruined_file_is_refused_and_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges ten times too narrow clip nearly everything."""
    honest = steps.table_from_observed

    def narrow(*arguments: object) -> object:
        table = honest(*arguments)  # type: ignore[arg-type]
        ranges = {name: (low / 10, high / 10) for name, (low, high) in table.ranges.items()}
        return replace(table, ranges=ranges, magnitudes={name: m / 10 for name, m in table.magnitudes.items()})

    monkeypatch.setattr(steps, "table_from_observed", narrow)
    assert main([*INT8, *CLIPS_ASPECT, "--frames", "24", "--revert", "0", "--out", str(tmp_path)]) == 3
    error = capsys.readouterr().err
    assert error.count(": FAILED: AP kept") == 3
    assert "Traceback" not in error
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(FILES)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--keep-float", "stem,neck"],
            "--keep-float takes stem, depthwise, backbone_depthwise, se, fpn, heads, or layers as edgedet sensitivity "
            "names them; got 'neck'",
        ),
        (["--observer", "best"], "--observer takes mixed, mse, minmax, percentile; got 'best'"),
        (["--score", "1.5"], "between 0 and 1"),
        (["--keep-float", "backbone.conv_stem,necks"], "got 'necks'"),
        (["--table", "nowhere.json"], "nowhere.json is no calibration table"),
        (["--data", "nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_options_give_one_line_before_anything_is_exported(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*INT8, *SMALL, "--frames", "6", "--out", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_labelled_frames_are_left_out_of_calibration(tmp_path: Path) -> None:
    """Of six frames to calibrate on, the second and the last are labelled; of two to select on, none."""
    cv2 = pytest.importorskip("cv2", reason="needs the pc extra")
    spec = resized(SPECS["tf_efficientdet_d0"], (128, 128))
    pictures = [np.full((64, 64, 3), 25 * level, np.uint8) for level in range(8)]
    inputs = tuple(replace_pixels(Preprocessor(spec), bgr) for bgr in pictures)
    frames = FrameSets(inputs[:6], inputs[6:], (), "scene.mp4", 8)
    images = []
    for at in (1, 5):
        path = tmp_path / f"{at}.png"
        assert cv2.imwrite(str(path), pictures[at])
        none = np.zeros(0)
        images.append(LabelledImage(path, None, np.zeros((0, 4)), none.astype(np.int64), none, none.astype(bool)))
    left = leave_out_labelled(frames, Dataset(tuple(images), ("person",)), spec)
    kept = [sha256_of_frame(frame) for frame in (*left.calibrate, *left.select)]
    assert kept == [sha256_of_frame(inputs[at]) for at in (0, 2, 3, 4, 6, 7)]
    assert left.notes == (
        "2 frames of --calib are labelled images, so they are used for the verdict and not for calibration",
    )


def replace_pixels(preprocess: Preprocessor, bgr: np.ndarray) -> ModelInput:
    """Return the input with pixels of its own: a Preprocessor uses its buffer again."""
    model_input = preprocess(bgr)
    return replace(model_input, pixels=model_input.pixels.copy())


def test_labels_of_calibration_frames_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs the pc extra")
    folder = tmp_path / "pictures"
    folder.mkdir()
    images, boxes = [], []
    for number, bgr in enumerate(demo.clip_frames(4), start=1):
        name = f"{number}.png"
        assert cv2.imwrite(str(folder / name), bgr)
        images.append({"id": number, "file_name": name, "width": bgr.shape[1], "height": bgr.shape[0]})
        box = {"id": number, "image_id": number, "category_id": 1, "bbox": [10, 10, 50, 90], "area": 4500, "iscrowd": 0}
        boxes.append(box)
    labels = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    calibrate = ["--calib", str(folder), "--frames", "4", "--data", str(tmp_path / "labels.json")]
    assert main([*INT8, *SMALL, *calibrate, "--images", str(folder), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "of the 4 labelled images are calibration frames, too (first: " in error
    assert not list((tmp_path / "out").glob("*int8*"))
