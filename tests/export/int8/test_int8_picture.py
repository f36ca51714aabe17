"""The picture of float against INT8 boxes: which frames it shows, and where the boxes lie in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedet.export.int8.picture import TILE_WH, choose_frames, draw_boxes_of_both, source_picture
from edgedet.types import Detections, ModelInput

cv2 = pytest.importorskip("cv2", reason="pictures are drawn by OpenCV")
A, B = (20.0, 30.0, 100.0, 90.0), (150.0, 60.0, 220.0, 160.0)


def detections(*boxes: tuple[float, ...], score: float = 0.8) -> Detections:
    n = len(boxes)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(n, score, np.float32), np.zeros(n, np.int64))


def test_frames_that_agree_least_come_first_and_the_others_are_spread():
    """Frame 3 agrees in nothing, frame 5 in one of two boxes; six of ten are shown, no empty one beside the worst."""
    pairs = [(detections(A, B), detections(A, B)) for _ in range(10)]
    pairs[3] = (detections(A), detections(B))
    pairs[5] = (detections(A, B), detections(A))
    shown = choose_frames(pairs)
    assert shown[:2] == [3, 5]
    assert len(shown) == len(set(shown)) == 6


def test_both_models_boxes_are_drawn_where_they_are(tmp_path: Path):
    """A picture of 240 x 180 is shown at twice its size: A's left side is at 40, B's at 300."""
    path = tmp_path / "boxes.jpg"
    grey = np.full((180, 240, 3), 128, np.uint8)
    sides = [detections(A)], [detections(B, (0, 0, 9, 9), score=0.8)]
    draw_boxes_of_both(path, "my_int8.tflite", [lambda: grey], *sides, score=0.5)
    picture = cv2.imread(str(path)).astype(int)
    tile = picture[36 : 36 + TILE_WH[1], : TILE_WH[0]]
    blue, green, red = np.moveaxis(tile, 2, 0)
    assert (green - red)[120, 38:43].max() > 60  # A: float, green
    assert (red - green)[220, 299:302].max() > 60  # B: INT8, red
    assert abs((red - green)[90, 299:302]).max() < 60  # not above it
    draw_boxes_of_both(path, "my_int8.tflite", [lambda: grey], *sides, score=0.9)
    tile = cv2.imread(str(path)).astype(int)[36 : 36 + TILE_WH[1], : TILE_WH[0]]
    assert abs(tile - 128).max() < 60  # all scores are lower


def test_the_picture_of_a_models_input_has_its_sources_size():
    """Input 64 x 64 of a picture of 128 x 96, at half its size: what lies below row 48 is the fill."""
    pixels = np.full((1, 64, 64, 3), 7, np.uint8)
    pixels[0, :48] = 200
    picture = source_picture(ModelInput(pixels, 2.0, (96, 128)))
    assert picture.shape == (96, 128, 3)
    assert picture.min() == 200
