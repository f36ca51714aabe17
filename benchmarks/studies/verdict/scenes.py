"""The models of the study: a checkpoint at a size with some of its classes, and the pictures that belong to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from edgedet.artifact import ArtifactMeta
from edgedet.errors import InputError
from edgedet.export.checkpoints.checkpoint import load_checkpoint, network_from_checkpoint
from edgedet.export.checkpoints.select_classes import with_classes
from edgedet.export.fusion.fuse import graph_from_network
from edgedet.judge.labels import LabelledImage, match_classes, read_dataset
from edgedet.preprocess import Preprocessor
from edgedet.specs import DetectorSpec, resized
from edgedet.stream.images import read_image
from edgedet.stream.sources import open_source
from edgedet.types import ModelInput

ALL_CLASSES = {"street": ("person",), "cards": ("nine", "ten", "jack", "queen", "king", "ace")}
CALIBRATE = 64
GATE_FRAMES = 70  # frames without labels, of those that calibration does not see


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
class Labelled:
    """A scene's labelled pictures: of test and more neither calibration nor judging sees any.

    more:  pictures of the training split, so that "AP kept" is less chance: 67 pictures have 68 boxes of three classes.
    judge: the pictures that are judged on, whose labels the verdict does not see; () where they have none.
    """

    test: tuple[LabelledImage, ...]
    more: tuple[LabelledImage, ...]
    judge: tuple[LabelledImage, ...]
    class_map: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Pictures:
    """A scene's pictures as its network takes them; ``test`` and ``more`` are those of ``labelled``."""

    calibrate: list[ModelInput]
    judge: list[ModelInput]
    test: list[ModelInput]
    more: list[ModelInput]
    labelled: Labelled


def float_graph(scene: Scene, shared: Path) -> tuple[onnx.ModelProto, ArtifactMeta]:
    """Return a scene's fused float graph and its metadata."""
    checkpoint = load_checkpoint(shared / "weights" / f"tf_efficientdet_d0_{scene.data}.pth")
    if scene.classes:
        checkpoint = with_classes(checkpoint, scene.classes)
    checkpoint = replace(checkpoint, spec=resized(checkpoint.spec, scene.input_hw))
    meta = ArtifactMeta(checkpoint.spec, checkpoint.class_names, "fp32", checkpoint.sha256)
    return graph_from_network(network_from_checkpoint(checkpoint), meta), meta


def labelled_of(scene: Scene, shared: Path) -> Labelled:
    """Return a scene's labelled pictures."""
    data, names = shared / "data" / scene.data, scene.classes or ALL_CLASSES[scene.data]
    if scene.data == "street":
        test = read_dataset(data / "test.json")
        return Labelled(test.images[::2], (), (), match_classes(test, names))
    test, train = (read_dataset(data / "images" / split) for split in ("test", "train"))
    class_map = match_classes(test, names)
    if match_classes(train, names) != class_map:
        raise InputError("the splits of cards name their classes in different orders.")
    by_path = {image.path: image for image in train.images}
    pictures = [by_path[path] for path in _training_paths(data)]
    return Labelled(test.images, tuple(pictures[GATE_FRAMES + CALIBRATE :]), tuple(pictures[:GATE_FRAMES]), class_map)


def pictures_of(scene: Scene, meta: ArtifactMeta, shared: Path) -> Pictures:
    """Return a scene's pictures: calibration and judging never share a photograph, nor a stretch of the video."""
    labelled = labelled_of(scene, shared)
    judge: Sequence[np.ndarray | Path]
    calibrate: Sequence[np.ndarray | Path]
    if scene.data == "cards":
        paths = _training_paths(shared / "data" / scene.data)
        judge, calibrate = paths[:GATE_FRAMES], paths[GATE_FRAMES : GATE_FRAMES + CALIBRATE]
    else:
        # the checkpoint's training saw every tenth frame before 580; the test set begins at 620
        frames = dict(video_frames(shared / "media" / "vtest.avi", 580))
        blocks = np.array_split([at for at in frames if at % 4 == 2], 8)
        judge = [frames[at] for block in blocks[::2] for at in block][:GATE_FRAMES]
        calibrate = [frames[at] for block in blocks[1::2] for at in block][:CALIBRATE]
    model_input = _model_inputs(meta.spec)
    return Pictures(
        [model_input(item) for item in calibrate],
        [model_input(item) for item in judge],
        [model_input(image.path) for image in labelled.test],
        [model_input(image.path) for image in labelled.more],
        labelled,
    )


def _training_paths(data: Path) -> list[Path]:
    """Return the photographs of the training split in a fixed random order."""
    paths = sorted((data / "images" / "train").glob("*.[jJ][pP][gG]"))
    return [paths[at] for at in np.random.default_rng(0).permutation(len(paths))]


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
