"""Boxes go where their objects go: a painted square is found again by its colour after every change."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
from training_sets import TINY

from edgedet.preprocess import Preprocessor
from edgedet.training.augment import Augmentation, Sample, augment, fit_sample, make_mosaic, mirror, recolour

PLAIN = Augmentation(brightness=0.0, contrast=0.0, saturation=0.0, balance=0.0)


def painted(box=(30, 20, 70, 50), size_wh=(160, 100)):
    pixels = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    x1, y1, x2, y2 = box
    pixels[y1:y2, x1:x2] = 255
    return Sample(pixels, np.array([box], np.float32), np.array([1]), np.ones(1, np.float32))


def find_bright(pixels):
    rows, columns = np.nonzero(pixels.min(2) > 200)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("seed", range(12))
def test_a_box_stays_on_its_object(seed):
    sample = augment(painted(), TINY, PLAIN, np.random.default_rng(seed))
    assert sample.pixels.shape == (128, 128, 3)
    if len(sample.boxes_xyxy):
        np.testing.assert_allclose(sample.boxes_xyxy[0], find_bright(sample.pixels), atol=1.5)
        assert sample.class_ids.tolist() == [1]


def test_without_changes_a_picture_is_what_the_device_sees():
    sample = painted()
    fitted = fit_sample(sample, TINY)
    np.testing.assert_array_equal(fitted.pixels, Preprocessor(TINY)(sample.pixels).pixels[0])
    np.testing.assert_allclose(fitted.boxes_xyxy[0], np.array([30, 20, 70, 50]) * 0.8, atol=1e-5)


def test_mirroring_twice_is_nothing():
    sample = painted()
    once = mirror(sample)
    assert once.boxes_xyxy.tolist() == [[90, 20, 130, 50]]
    np.testing.assert_array_equal(mirror(once).pixels, sample.pixels)


def test_an_object_that_is_cut_off_by_more_than_three_quarters_is_no_label():
    """Twice the size in a place by chance: of 12, some pictures lose the object, and none keeps a sliver of it."""
    twice = replace(PLAIN, flip=0.0, scale=(2.0, 2.0))
    boxes = [augment(painted(), TINY, twice, np.random.default_rng(seed)).boxes_xyxy for seed in range(12)]
    areas = [float(np.prod(box[0, 2:] - box[0, :2])) for box in boxes if len(box)]
    assert 0 < len(areas) < 12
    assert min(areas) >= 0.25 * (64 * 48)


def test_a_mosaic_holds_four_pictures_with_their_boxes():
    still = replace(PLAIN, flip=0.0, scale=(1.0, 1.0))
    sample = make_mosaic([painted() for _ in range(4)], TINY, still, np.random.default_rng(0))
    assert sample.pixels.shape == (128, 128, 3)
    assert sample.class_ids.tolist() == [1, 1, 1, 1]
    for x1, y1, x2, y2 in np.rint(sample.boxes_xyxy).astype(int):
        assert sample.pixels[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].min() > 200
        assert sample.pixels[y1:y2, max(0, x1 - 4) : max(1, x1 - 2)].max() < 200


def test_light_changes_and_grey_stays_grey_without_balance():
    grey = np.full((4, 4, 3), 100, np.uint8)
    how = Augmentation(balance=0.0)
    changed = [recolour(grey, how, np.random.default_rng(seed)) for seed in range(8)]
    assert len({int(pixels[0, 0, 0]) for pixels in changed}) > 4
    assert all(np.ptp(pixels.astype(int), axis=2).max() <= 1 for pixels in changed)
    np.testing.assert_array_equal(recolour(grey, replace(PLAIN), np.random.default_rng(0)), grey)


def test_a_small_part_of_a_crowd_is_still_ignored():
    """Of an object so cut off nothing is left; the part of a crowd would become background."""
    wide = painted((0, 0, 1600, 1000), (1600, 1000))
    how = replace(PLAIN, scale=(4.0, 4.0))
    for kind, boxes in ((1, 0), (-1, 1)):
        sample = replace(wide, class_ids=np.array([kind]))
        parts = [augment(sample, TINY, how, np.random.default_rng(seed)) for seed in range(8)]
        assert {len(part.boxes_xyxy) for part in parts} == {boxes}
