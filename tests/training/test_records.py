"""What a training leaves for people: sheets of pictures with their labels, and TensorBoard's figures."""

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
from edgedet.judge.labels import LabelledImage
from edgedet.training.records import LINE_PX, TILE_WH, TensorBoard, draw_labels, draw_validation, shrink_to_tile
from edgedet.types import Detections


@pytest.mark.parametrize(("size_hw", "tile_hw"), [((640, 480), (320, 240)), ((1000, 3200), (100, 320))])
def test_a_picture_of_any_size_fits_a_tile_whole(size_hw, tile_hw):
    tile, factor = shrink_to_tile(np.zeros((*size_hw, 3), np.uint8))
    assert tile.shape[:2] == tile_hw
    assert factor == tile_hw[0] / size_hw[0]


def test_a_label_is_a_white_box_with_its_name_below_or_at_the_pictures_edge():
    bgr = np.zeros((200, 200, 3), np.uint8)
    draw_labels(bgr, np.array([[20.0, 30, 90, 100], [150, 120, 199, 199]]), ["ace", "queen"])
    white = (bgr == 255).all(2)
    assert white[30:101, 20].all()
    assert white[30, 20:91].all()
    assert not white[31:100, 21:90].any()
    assert white[101 : 101 + LINE_PX, 20:40].any()  # the name, where the box is not
    assert white[199 - LINE_PX : 199, 151:190].any()  # no room below


def test_a_validation_sheet_shows_labels_of_the_classes_that_are_learnt(tmp_path):
    """Of two labels one is of a class that is not learnt; the detection is in a colour."""
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.zeros((640, 640, 3), np.uint8))
    boxes = np.array([[40.0, 40, 200, 200], [400, 400, 600, 600]])
    image = LabelledImage(picture, (640, 640), boxes, np.array([0, 1]), np.ones(2), np.zeros(2, bool))
    detections = Detections(
        np.array([[340, 40, 560, 200]], np.float32), np.array([0.9], np.float32), np.array([0], np.int64)
    )
    draw_validation([(image, detections)], (-1, 0), ("ace",), tmp_path / "sheet.jpg")
    sheet = cv2.imread(str(tmp_path / "sheet.jpg"))
    assert sheet.shape[:2] == TILE_WH[::-1]
    assert sheet[20:100, 20:100].max() < 40
    assert (sheet[250, 195:205] > 200).all(1).any()
    spread = sheet[60, 165:175].astype(int)
    assert (spread.max(1) - spread.min(1)).max() > 100


def test_tensorboards_logs_hold_the_figures_of_each_epoch(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoard(tmp_path)
    for epoch in (1, 2):
        board.add({"epoch": epoch, "AP": 0.25 * epoch, "AP75": None})
    board.close()
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("AP")] == [(1, 0.25), (2, 0.5)]
    assert events.Tags()["scalars"] == ["AP"]
