"""The size of objects by the edges of pictures, and the verdict on files whose boxes grow or shrink."""

from __future__ import annotations

import numpy as np
import pytest

from edgedet.judge.gate.outlines import LEAST_BOXES, LOG_SIZES, find_excess, measure_outlines
from edgedet.judge.gate.perturbation import MOVES_XY
from edgedet.judge.gate.pseudo_labels import FloatRuns, PseudoLabels, outlines_of
from edgedet.judge.gate.verdict import FAILED, PASSED, verdict_without_labels
from edgedet.types import Detections, ModelInput

SIDE = 256


def scene(seed: int, contrast: float = 60.0) -> tuple[ModelInput, np.ndarray]:
    """Return a noisy picture of four bright rectangles at half the source's size, and their (4, 4) source boxes."""
    random = np.random.default_rng(seed)
    picture = random.normal(90.0, 6.0, (SIDE, SIDE))
    boxes = []
    for at in range(4):
        width, height = random.integers(36, 70, 2)
        x, y = 128 * (at % 2) + random.integers(20, 36), 128 * (at // 2) + random.integers(20, 36)
        picture[y : y + height, x : x + width] += contrast
        boxes.append((x, y, x + width, y + height))
    pixels = np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[None, ..., None], 3, axis=-1)
    return ModelInput(pixels, 2.0, (2 * SIDE, 2 * SIDE)), 2.0 * np.array(boxes, dtype=np.float64)


def resized(boxes_xyxy: np.ndarray, width: float, height: float) -> np.ndarray:
    middles, halves = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2
    halves = halves * np.array([width, height])
    return np.hstack([middles - halves, middles + halves])


def outlines(width: float, height: float, contrast: float = 60.0, frames: int = 20) -> list[np.ndarray]:
    made = (scene(seed, contrast) for seed in range(frames))
    return [measure_outlines(frame, resized(boxes, width, height)) for frame, boxes in made]


@pytest.mark.parametrize(("width", "height"), [(1.15, 1.05), (0.9, 1.0), (1.0, 0.87)])
def test_boxes_that_are_too_large_or_too_small_are_measured_by_the_edges(width: float, height: float) -> None:
    excess = find_excess(outlines(width, height))
    assert excess == pytest.approx((np.log(width), np.log(height)), abs=0.03)


def test_pictures_without_outlines_and_too_few_boxes_tell_nothing() -> None:
    assert find_excess(outlines(1.1, 1.1, contrast=0.0)) is None
    assert find_excess(outlines(1.1, 1.1, frames=(LEAST_BOXES - 1) // 4)) is None
    assert find_excess([]) is None


def test_tiny_boxes_are_left_out_and_sides_beyond_the_picture_are_unknown() -> None:
    """A box at the left border has its right side alone; one that fills the picture has none from size 1 on."""
    frame, _ = scene(0)
    assert measure_outlines(frame, np.array([[10.0, 10.0, 30.0, 200.0]])).shape == (0, 2, len(LOG_SIZES))
    at_border, whole = measure_outlines(frame, np.array([[0.0, 100.0, 200.0, 300.0], [0.0, 0.0, 512.0, 512.0]]))
    assert not np.isnan(at_border).any()
    assert np.isnan(whole[:, LOG_SIZES > 0]).all()
    assert np.nanmean(at_border[0]) == pytest.approx(0.0, abs=1e-9)


def detections(boxes_xyxy: np.ndarray) -> Detections:
    """Return them with scores that differ from frame to frame."""
    best = 0.8 + boxes_xyxy[0, 0] / 1000
    scores = np.linspace(best, best - 0.2, len(boxes_xyxy)).astype(np.float32)
    return Detections(boxes_xyxy.astype(np.float32), scores, np.zeros(len(boxes_xyxy), dtype=np.int64))


@pytest.mark.parametrize(
    ("drawn", "growth", "verdict"),
    [(1.15, 0.96, PASSED), (1.15, 1.04, FAILED), (0.87, 1.04, PASSED), (0.87, 0.96, FAILED)],
)
def test_boxes_that_come_nearer_to_the_objects_pass_and_those_that_go_away_fail(
    drawn: float, growth: float, verdict: str
) -> None:
    """The float model draws boxes ``drawn`` times as large as the objects, the file another ``growth`` times."""
    frames, boxes = zip(*(scene(seed) for seed in range(20)), strict=True)
    by_float = [detections(resized(one, drawn, drawn)) for one in boxes]
    edges = [outlines_of(frame, one, 0.4) for frame, one in zip(frames, by_float, strict=True)]
    labels = PseudoLabels(FloatRuns(by_float, [by_float] * len(MOVES_XY), edges), 0.4)
    by_file = [detections(resized(one, drawn * growth, drawn * growth)) for one in boxes]
    assert verdict_without_labels(labels, by_float, by_file).verdict == verdict
