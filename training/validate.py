"""The network of a training as a detector: what AP it has, and what it detects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from edgedet.artifact import ArtifactMeta
from edgedet.detector import Detector
from edgedet.engines.base import Engine
from edgedet.errors import InputError
from edgedet.judge.average_precision import SCORE_FLOOR, Accuracy, compute_accuracy, detect_images
from edgedet.judge.labels import LabelledImage
from edgedet.progress import with_progress
from edgedet.types import Detections, RawOutputs


class ModuleEngine(Engine):
    """A module that takes pixels, behind the interface of an engine, so that it is judged as model files are."""

    def __init__(self, module: nn.Module) -> None:
        """``module``: (N, H, W, 3) uint8 BGR -> logits and codes, as ``fit.FromPixels``."""
        self._module = module

    @torch.inference_mode()
    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run (1, H, W, 3) uint8 BGR pixels in eval mode."""
        device = next(self._module.parameters()).device
        was_training = self._module.training
        self._module.eval()
        logits, codes = self._module(torch.from_numpy(pixels.copy()).to(device))
        self._module.train(was_training)
        return RawOutputs(logits[0].float().cpu().numpy(), codes[0].float().cpu().numpy())

    def close(self) -> None:
        """Do nothing: no resource is held."""


def validate(
    engine: Engine, meta: ArtifactMeta, images: Sequence[LabelledImage], class_map: Sequence[int]
) -> tuple[Accuracy, list[tuple[LabelledImage, Detections]]]:
    """Return the accuracy on labelled images, and each image with its detections.

    Raises InputError where an image cannot be read.
    """
    detector = Detector((meta, engine), score=SCORE_FLOOR)
    detected, failures = detect_images(detector, with_progress(images, "validating", "image"))
    if failures:
        raise InputError(f"{len(failures)} validation images cannot be used: {failures[0]}; mend or remove them.")
    return compute_accuracy(detected, class_map, meta.class_names), detected
