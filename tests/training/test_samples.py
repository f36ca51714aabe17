"""Which pictures and labels a training reads, in which order, and which process reads what."""

import pytest

pytest.importorskip("torch")
from training_sets import TINY, write_coco

from edgedet.judge.labels import read_dataset
from edgedet.training.augment import NONE
from edgedet.training.samples import Order, Pictures, make_loader, select_labels
from edgedet.training.train import map_classes, select_classes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return read_dataset(write_coco(tmp_path_factory.mktemp("set"), "train", 8, 0))


def test_each_epoch_takes_every_picture_and_processes_share_the_batches():
    """Two processes with 3 pictures a step take together what one takes with 6; the last batch is filled up."""
    one = [sorted(batch) for batch in Order(10, 6, seed=1)]
    two = [list(Order(10, 3, seed=1, rank=rank, processes=2)) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*two, strict=True)] == one
    assert {number for batch in one for _, number in batch} == set(range(10))
    assert list(Order(10, 6, seed=1, epoch=1)) != list(Order(10, 6, seed=1))


def test_processes_that_read_share_the_cache_of_one(data):
    pictures = Pictures(select_labels(data.images, (0, 1)), TINY, NONE, seed=0, cache_bytes=900)
    order = Order(len(pictures), 4, seed=0)
    sizes = [make_loader(pictures, order, workers).dataset.cache_bytes for workers in (0, 1, 2)]
    assert sizes == [900, 900, 450]


def test_a_subset_of_the_classes_is_learnt(data):
    """Boxes of a class that is left out are no labels; the rest are numbered as chosen."""
    names = select_classes(data, ("Disc",))
    assert names == ("disc",)
    pictures = select_labels(data.images, map_classes(data, names))
    discs = sum(int((image.class_ids == 1).sum()) for image in data.images)
    assert sum(len(picture.class_ids) for picture in pictures) == discs > 0
    assert all((picture.class_ids == 0).all() for picture in pictures)
