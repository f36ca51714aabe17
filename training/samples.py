"""Labelled pictures in the order and the form in which a training takes them.

Which picture comes when, and how it is changed, depends on the seed, the epoch and the picture's number alone: a
training that was killed goes on with the same pictures, and several processes share out the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from edgedet.errors import EdgeDetError, InputError
from edgedet.judge.labels import Dataset, LabelledImage
from edgedet.preprocess import shrink
from edgedet.specs import DetectorSpec
from edgedet.stream.images import read_image
from edgedet.training.augment import NONE, Augmentation, Sample, augment, fit_sample, make_mosaic

CACHE_BYTES = 2 << 30  # of decoded pictures, in all processes that read; what is beyond is read again each time
KEPT_SIDE = 1.5  # a picture is kept at this many times the input at most: augmentation does not enlarge it by more
IGNORED_CLASS = -1


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """A labelled image with the model's class ids (-1: ignored) and how sure each label is."""

    image: LabelledImage
    class_ids: np.ndarray
    scores: np.ndarray


def select_labels(images: Sequence[LabelledImage], class_map: Sequence[int]) -> list[LabelledPicture]:
    """Return the images with the model's class ids; boxes of classes that the model does not have are left out."""
    labelled = []
    for image in images:
        slots = np.array(class_map, dtype=np.int64)[image.class_ids]
        kept = slots >= 0
        slots = np.where(image.ignored, IGNORED_CLASS, slots)
        trimmed = LabelledImage(
            image.path,
            image.size_wh,
            image.boxes_xyxy[kept],
            image.class_ids[kept],
            image.areas[kept],
            image.ignored[kept],
        )
        labelled.append(LabelledPicture(trimmed, slots[kept], np.ones(int(kept.sum()), np.float32)))
    return labelled


def hold_out(data: Dataset) -> tuple[Dataset, Dataset]:
    """Return four of five images to learn from, and every fifth to judge on; raises InputError where there is one."""
    if len(data.images) < 2:
        raise InputError(
            "there is one labelled image, which cannot be learnt from and judge as well: wanted two or more, or --val."
        )
    rest = tuple(image for at, image in enumerate(data.images) if at % 5)
    return replace(data, images=rest), replace(data, images=data.images[::5], failures=(), unlabelled=0)


@dataclass(eq=False)
class Pictures(torch_data.Dataset):
    """The training's pictures as samples; an index is (epoch, number of the picture)."""

    pictures: Sequence[LabelledPicture]
    spec: DetectorSpec
    how: Augmentation
    seed: int
    cache_bytes: int = CACHE_BYTES
    _cache: dict[int, Sample] = field(default_factory=dict)
    _cached_bytes: int = 0

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    def __getitem__(self, index: tuple[int, int]) -> Sample | EdgeDetError:
        """Return the picture in the size of the input, changed as this epoch wants it.

        An error is returned, not raised: DataLoader would hand one of another process on as a traceback.
        """
        try:
            return self.make(index)
        except EdgeDetError as error:
            return error

    def make(self, index: tuple[int, int]) -> Sample:
        """Return the picture as ``__getitem__``; raises SourceError where it cannot be read."""
        epoch, number = index
        if self.how == NONE:
            return fit_sample(self._read(number), self.spec)
        random = np.random.default_rng([self.seed, epoch, number])
        if random.random() < self.how.mosaic:
            others = random.integers(len(self.pictures), size=3)
            samples = [self._read(at) for at in (number, *map(int, others))]
            return make_mosaic(samples, self.spec, self.how, random)
        return augment(self._read(number), self.spec, self.how, random)

    def _read(self, number: int) -> Sample:
        if number in self._cache:
            return self._cache[number]
        picture = self.pictures[number]
        sample = Sample(
            read_image(picture.image.path),
            picture.image.boxes_xyxy.astype(np.float32),
            picture.class_ids,
            picture.scores,
        )
        sample = _shrink_to(sample, round(KEPT_SIDE * max(self.spec.input_hw)))
        if self._cached_bytes + sample.pixels.nbytes <= self.cache_bytes:
            self._cache[number] = sample
            self._cached_bytes += sample.pixels.nbytes
        return sample


def _shrink_to(sample: Sample, most: int) -> Sample:
    """Return the sample with no side longer than ``most`` pixels."""
    import cv2

    h, w = sample.pixels.shape[:2]
    if max(h, w) <= most:
        return sample
    factor = most / max(h, w)
    smaller = np.empty((max(1, round(h * factor)), max(1, round(w * factor)), 3), np.uint8)
    shrink(cv2, sample.pixels, smaller, {})
    factors = np.array([smaller.shape[1] / w, smaller.shape[0] / h] * 2, np.float32)
    return Sample(smaller, sample.boxes_xyxy * factors, sample.class_ids, sample.scores)


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures of one step.

    pixels: (N, H, W, 3) uint8 BGR.
    labels: for each picture boxes_xyxy (n, 4), class ids (n,), -1 for boxes to ignore, and scores (n,).
    """

    pixels: Tensor
    labels: list[tuple[Tensor, Tensor, Tensor]]


def collate(items: Sequence[Sample | EdgeDetError]) -> Batch | EdgeDetError:
    """Return the samples as one batch, or the error of one of them."""
    samples: list[Sample] = []
    for item in items:
        if isinstance(item, EdgeDetError):
            return item
        samples.append(item)
    return Batch(
        torch.from_numpy(np.stack([sample.pixels for sample in samples])),
        [(torch.from_numpy(s.boxes_xyxy), torch.from_numpy(s.class_ids), torch.from_numpy(s.scores)) for s in samples],
    )


@dataclass(eq=False)
class Order(torch_data.Sampler):
    """The batches of one process: each epoch a new order of all pictures, shared out among the processes.

    batch: pictures that a process takes at once. The last batch of an epoch is filled up with the epoch's first ones.
    first: step of the epoch to begin with.
    """

    count: int
    batch: int
    seed: int
    rank: int = 0
    processes: int = 1
    epoch: int = 0
    first: int = 0

    def __len__(self) -> int:
        """Number of steps of an epoch."""
        return -(-self.count // (self.batch * self.processes))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Return the (epoch, number) of each picture, batch by batch."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        order = np.resize(order, len(self) * self.batch * self.processes)
        for numbers in order.reshape(len(self), self.processes, self.batch)[self.first :, self.rank]:
            yield [(self.epoch, int(number)) for number in numbers]


def make_loader(pictures: Pictures, order: Order, workers: int) -> torch_data.DataLoader:
    """Return a loader of batches. ``workers`` processes read ahead, and share the cache out; 0: this process reads."""
    more: dict[str, Any] = {"persistent_workers": True} if workers else {}
    pictures = replace(pictures, cache_bytes=pictures.cache_bytes // max(1, workers))
    return torch_data.DataLoader(pictures, batch_sampler=order, collate_fn=collate, num_workers=workers, **more)
