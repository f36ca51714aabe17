"""The average precision of a model file as one Python call: ``edgedet.evaluate(model, data)``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Optional, Union

from ..engines.base import default_threads
from ..errors import require
from ..judge import evaluate as measuring
from ..judge.evaluate import Evaluation
from ..judge.labels import read_dataset
from ..postprocess import NmsRules
from ..progress import Say, say_nothing


def evaluate(
    model: Union[str, Path],
    data: Union[str, Path],
    images: Optional[Union[str, Path]] = None,
    threads: Optional[int] = None,
    nms: Optional[Union[NmsRules, str]] = None,
    limit: Optional[int] = None,
    say: Say = say_nothing,
) -> Evaluation:
    """Return what ``edgedet eval`` prints: AP of a model file on labelled images, as pycocotools counts it.

    data:   COCO JSON file, or folder of Pascal VOC XML; images: their folder, where it is not the usual one.
    nms:    as of ``Detector``; limit: take the first images only.
    say:    takes a line on classes and images that are left out.
    Images that could not be read are in ``failures``. Raises InputError where the labels cannot be used, SourceError
    where no image could be read, MissingDependency without pycocotools, and what ``Detector`` raises.
    """
    for module in ("pycocotools", "tqdm"):
        require(module, "edgedet.evaluate")
    dataset = read_dataset(Path(data), None if images is None else Path(images))
    dataset = replace(dataset, images=dataset.images[:limit])
    return measuring.evaluate(str(model), dataset, threads or default_threads(), say=say, nms=nms)
