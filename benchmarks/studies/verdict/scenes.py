"""The models of the study: a checkpoint at a size with some of its classes, and the pictures that belong to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from edgedet.artifact import ArtifactMeta
from edgedet.export.checkpoints.checkpoint import load_checkpoint, network_from_checkpoint
from edgedet.export.checkpoints.select_classes import with_classes
from edgedet.export.fusion.fuse import graph_from_network
from edgedet.judge.labels import LabelledImage, match_classes, read_dataset
from edgedet.preprocess import Preprocessor
from edgedet.specs import DetectorSpec, resized
from edgedet.stream.images import read_image
from edgedet.stream.sources import open_source
from edgedet.types import ModelInput

JUDGED = 70  # frames without labels, of those that calibration does not see


@dataclass(frozen=True)
class Scene:
    """One float model and its data.

    data:     "cards" or "street".
    input_hw: in pixels.
    classes:  those that the model keeps; () for all.
    """

    name: str
    data: str
    input_hw: tuple[int, int]
    classes: tuple[str, ...] = ()


SCENES = (
    Scene("cards 384", "cards", (384, 288)),
    Scene("street 512", "street", (384, 512)),
    Scene("cards 512", "cards", (512, 384)),
    Scene("street 448", "street", (336, 448)),
    Scene("cards 448, ace king queen", "cards", (448, 336), ("ace", "king", "queen")),
    Scene("cards 384, nine ten jack", "cards", (384, 288), ("nine", "ten", "jack")),
)


@dataclass(frozen=True, eq=False)
class Pictures:
    """A scene's pictures as its network takes them; the labels belong to ``test``."""

    calibrate: list[ModelInput]
    judge: list[ModelInput]
    test: list[ModelInput]
    labels: tuple[LabelledImage, ...]
    class_map: tuple[int, ...]


def float_graph(scene: Scene, shared: Path) -> tuple[onnx.ModelProto, ArtifactMeta]:
    """Return a scene's fused float graph and its metadata."""
    checkpoint = load_checkpoint(shared / "weights" / f"tf_efficientdet_d0_{scene.data}.pth")
    if scene.classes:
        checkpoint = with_classes(checkpoint, scene.classes)
    checkpoint = replace(checkpoint, spec=resized(checkpoint.spec, scene.input_hw))
    meta = ArtifactMeta(checkpoint.spec, checkpoint.class_names, "fp32", checkpoint.sha256)
    return graph_from_network(network_from_checkpoint(checkpoint), meta), meta


def pictures_of(scene: Scene, meta: ArtifactMeta, shared: Path) -> Pictures:
    """Return a scene's pictures: calibration and judging never share a photograph, nor a stretch of the video."""
    spec, data = meta.spec, shared / "data" / scene.data
    if scene.data == "cards":
        paths = sorted((data / "images" / "train").glob("*.[jJ][pP][gG]"))
        order = np.random.default_rng(0).permutation(len(paths))
        chosen = [paths[at] for at in order]
        judge, calibrate = chosen[:JUDGED], chosen[JUDGED : JUDGED + 64]
        test = read_dataset(data / "images" / "test")
        images = test.images
    else:
        # the checkpoint's training saw every tenth frame before 580; the test set begins at 620
        frames = dict(video_frames(shared / "media" / "vtest.avi", 580))
        blocks = np.array_split([at for at in frames if at % 4 == 2], 8)
        judge = [frames[at] for block in blocks[::2] for at in block][:JUDGED]
        calibrate = [frames[at] for block in blocks[1::2] for at in block][:64]
        test = read_dataset(data / "test.json")
        images = test.images[::2]
    model_input = _model_inputs(spec)
    return Pictures(
        [model_input(item) for item in calibrate],
        [model_input(item) for item in judge],
        [model_input(image.path) for image in images],
        images,
        match_classes(test, meta.class_names),
    )


def video_frames(path: Path, end: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, BGR picture) of the frames before ``end``, every second."""
    with closing(open_source(str(path), lambda: False)) as source:
        for frame in source:
            if frame.index >= end:
                return
            if frame.index % 2 == 0:
                yield frame.index, frame.bgr.copy()


def _model_inputs(spec: DetectorSpec) -> Callable[[np.ndarray | Path], ModelInput]:
    preprocess = Preprocessor(spec)

    def model_input(picture: np.ndarray | Path) -> ModelInput:
        made = preprocess(read_image(picture) if isinstance(picture, Path) else picture)
        return ModelInput(made.pixels.copy(), made.scale_to_source, made.source_hw)

    return model_input
