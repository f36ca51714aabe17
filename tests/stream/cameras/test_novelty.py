"""Old pictures are told from new ones by their pixels."""

from __future__ import annotations

import numpy as np

from edgedet.stream.cameras import novelty
from edgedet.stream.cameras.novelty import Novelty


def noise(seed, size_hw=(720, 1280)):
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def test_the_same_picture_is_old():
    seen = Novelty()
    assert [seen.is_new(noise(seed)) for seed in (1, 1, 2, 1, 2, 3)] == [True, False, True, False, False, True]


def test_a_sensors_noise_makes_a_picture_new():
    """One grey level more or less in 2 % of the pixels, as a quiet sensor gives in the dark."""
    rng = np.random.default_rng(0)
    scene = np.full((480, 640, 3), 40, np.uint8)
    seen = Novelty()
    for _ in range(20):
        assert seen.is_new(scene + (rng.random(scene.shape) < 0.02).astype(np.uint8))


def test_small_and_odd_sizes():
    seen = Novelty()
    for size_hw in ((1, 1), (3, 5), (65, 33), (1080, 1921)):
        assert seen.is_new(noise(0, size_hw))
        assert not seen.is_new(noise(0, size_hw))


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(novelty, "_REMEMBERED", 3)
    seen = Novelty()
    pictures = [noise(seed, (8, 8)) for seed in range(4)]
    assert all(seen.is_new(picture) for picture in pictures)
    assert not seen.is_new(pictures[1])  # and is the latest now
    assert seen.is_new(pictures[0])  # was forgotten; now 2 is
    assert [seen.is_new(pictures[at]) for at in (3, 1, 0)] == [False, False, False]
