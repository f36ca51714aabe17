"""The spread of AP: which pixels are changed, and what is kept, on boxes that can be checked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedet.benchmarks.studies.int8.ap_spread import compute_spread, main
from edgedet.judge.gate.perturbation import PerturbedEngine
from edgedet.judge.labels import LabelledImage
from edgedet.judge.matching import MatchedDetections, match_dataset
from edgedet.types import Detections, RawOutputs

IMAGES = 40
BOX = np.array([[10.0, 10.0, 30.0, 30.0]])


def labelled() -> list[LabelledImage]:
    one = (BOX, np.zeros(1, np.int64), np.array([400.0]), np.zeros(1, bool))
    return [LabelledImage(Path(f"{number}.jpg"), None, *one) for number in range(IMAGES)]


def judged(right: list[bool]) -> MatchedDetections:
    """One box an image, exact or not there at all."""
    found = [
        Detections(BOX[:there].astype(np.float32), np.full(there, 0.9, np.float32), np.zeros(there, np.int64))
        for there in map(int, right)
    ]
    return match_dataset(labelled(), found, [0])


def test_a_file_that_finds_the_same_keeps_everything():
    same = judged([True] * IMAGES)
    row = compute_spread("same", [same], [same, same], IMAGES)
    assert (row.mean_ap, row.deviation, row.kept, row.low) == (1.0, 0.0, 1.0, 1.0)


def test_the_mean_over_changes_is_compared():
    """A box in every image, then in every second one: AP 1 and 51 / 101 (recalls 0 to 0.5), mean 0.7525."""
    whole, half = judged([True] * IMAGES), judged([number % 2 == 0 for number in range(IMAGES)])
    row = compute_spread("mixed", [whole], [whole, half], IMAGES)
    assert row.aps == pytest.approx((1.0, 51 / 101))
    assert row.kept == pytest.approx((1 + 51 / 101) / 2)
    assert 0.6 < row.low < row.kept


def test_one_pixel_of_a_thousand_moves_by_one_level():
    seen = []

    class Engine:
        def infer(self, pixels: np.ndarray) -> RawOutputs:
            seen.append(pixels)
            return RawOutputs(np.zeros((1, 1), np.float32), np.zeros((1, 4), np.float32))

        def close(self) -> None: ...

    pixels = np.full((1, 512, 512, 3), 255, np.uint8)
    pixels[:, :, 256:] = 100
    PerturbedEngine(Engine(), seed=0).infer(pixels)
    PerturbedEngine(Engine(), seed=0).infer(pixels)
    moved = seen[0].astype(int) - pixels
    assert set(np.unique(moved)) == {-1, 0, 1}
    assert 0.0004 < (moved != 0).any(-1).mean() < 0.0015
    np.testing.assert_array_equal(seen[0], seen[1])


def test_wrong_arguments_give_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["a.onnx", "b.tflite", "--data", str(tmp_path / "no.json")]) == 2
    assert "no.json" in capsys.readouterr().err
