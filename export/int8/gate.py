"""The accuracy gate of INT8 files: against the float model on the gate's frames, or on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.ranges.frames import FrameSets, sha256_of_frame
from edgedet.errors import InputError, SourceError
from edgedet.export.int8.options import Int8Options
from edgedet.export.int8.picture import BOXES_SUFFIX, PictureOf, draw_boxes_of_both, source_picture
from edgedet.export.int8.workers import FrameDetector, OpenDetector, open_here
from edgedet.judge.average_precision import check_size
from edgedet.judge.gate.perturbation import draw_change
from edgedet.judge.gate.reference import FloatReference, spread
from edgedet.judge.gate.verdict import MIN_BOXES, Verdict, foresee_without_labels
from edgedet.judge.gate.verdict_on_labels import LABELS_SCORE_FLOOR, foresee_on_labels, is_settled, verdict_on_labels
from edgedet.judge.labels import Dataset, LabelledImage, match_classes
from edgedet.judge.matching import match_dataset
from edgedet.preprocess import Preprocessor
from edgedet.progress import Say
from edgedet.specs import DetectorSpec
from edgedet.stream.images import read_image
from edgedet.types import Detections, ModelInput

# So many runs over the labelled images, each changed a little, give the mean AP. The AP of one run is chance to half a
# point (docs/int8.md); onnxruntime without its optimisations is ten times slower.
RUNS = {".tflite": 8, ".onnx": 3}


class Gate:
    """Gives verdicts on INT8 files; the float model's detections are computed once for all of them."""

    def __init__(
        self,
        float_detector: FrameDetector,
        meta: ArtifactMeta,
        frames: FrameSets,
        options: Int8Options,
        say: Say,
        open_detector: OpenDetector | None = None,
    ) -> None:
        """Prepare the comparison; ``say`` is called with a line where it takes more frames or fewer runs.

        open_detector: opens the files that are judged; None: in this process.
        """
        self._options, self._meta, self._say = options, meta, say
        self._open_detector = open_detector or partial(open_here, threads=options.threads)
        self._class_map = match_classes(options.labels, meta.class_names) if options.labels else ()
        if options.labels is None:
            self._reference = FloatReference(float_detector.detect, spread(frames.gate), options.score, say)
        else:
            self._float_detections = self._detect_labelled(float_detector)
            self._float_ap = self._compute_ap(self._float_detections)

    def foresee(self) -> Verdict | None:
        """Return the verdict of every file where the pictures make it UNSURE whatever the file detects, else None."""
        options = self._options
        if options.labels is None:
            objects = self._reference.count_labels(MIN_BOXES)
            return foresee_without_labels(objects, len(self._reference.frames), options.score)
        images, drop = options.labels.images, options.max_drop
        return foresee_on_labels(images, self._float_detections, self._class_map, options.score, drop)

    def judge(self, path: Path) -> Verdict:
        """Run the file with its own engine and return the verdict on it."""
        options = self._options
        with closing(self._open_detector(path)) as detector:
            if options.labels is None:
                return self._reference.judge(detector.detect, options.seed)
            runs: list[list[Detections]] = []
            aps: list[float] = []
            for seed in range(RUNS[path.suffix]):
                runs.append(self._detect_labelled(detector, seed))
                aps.append(self._compute_ap(runs[-1]))
                if is_settled(aps, (1.0 - options.max_drop / 100.0) * self._float_ap):
                    self._say(f"{path.name}: {len(runs)} of {RUNS[path.suffix]} runs are enough for a verdict")
                    break
        self._int8_detections = runs[0]
        return verdict_on_labels(
            options.labels.images,
            self._float_detections,
            runs,
            self._class_map,
            options.score,
            options.seed,
            options.max_drop,
        )

    def draw(self, path: Path) -> None:
        """Draw both models' boxes on frames that the file of the last verdict was judged on."""
        labels = self._options.labels
        frames: list[PictureOf]
        if labels is None:
            int8_side = self._reference.last_detections
            float_side = self._reference.detections(len(int8_side))
            frames = [partial(source_picture, frame) for frame in self._reference.frames[: len(int8_side)]]
        else:
            float_side, int8_side = self._float_detections, self._int8_detections
            frames = [partial(read_image, image.path) for image in labels.images]
        if not frames:
            self._say(f"{path} is not drawn: no frame is left to judge on")
            return
        name = path.name.removesuffix(BOXES_SUFFIX)
        draw_boxes_of_both(path, name, frames, float_side, int8_side, self._options.score)
        self._say(f"drew {path}")

    def _compute_ap(self, detections: list[Detections]) -> float:
        assert self._options.labels is not None
        matched = match_dataset(self._options.labels.images, detections, self._class_map)
        return matched.compute_ap(np.ones(len(detections))) or 0.0

    def _detect_labelled(self, detector: FrameDetector, seed: int | None = None) -> list[Detections]:
        labels = self._options.labels
        assert labels is not None
        try:
            return detector.detect(LabelledFrames(labels.images, self._meta.spec, seed), LABELS_SCORE_FLOOR)
        except SourceError as error:
            raise InputError(f"{str(error).rstrip('.')}: mend the image or take it out of the labels.") from None


class LabelledFrames(Sequence[ModelInput]):
    """Labelled images as the network takes them, read when they are asked for; raises SourceError then."""

    def __init__(self, images: Sequence[LabelledImage], spec: DetectorSpec, seed: int | None = None) -> None:
        """``seed`` draws a change for each picture (``perturbation``); None leaves the pictures as they are."""
        self._images, self._preprocess = images, Preprocessor(spec)
        random = np.random.default_rng(seed)
        self._changes = None if seed is None else [draw_change(random, spec.input_hw) for _ in images]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> ModelInput: ...
    @overload
    def __getitem__(self, index: slice) -> list[ModelInput]: ...
    def __getitem__(self, index: int | slice) -> ModelInput | list[ModelInput]:
        """Return one picture with pixels of its own; raises SourceError for a file of another size than labelled."""
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        image = self._images[index]
        bgr = read_image(image.path)
        check_size(image, (bgr.shape[1], bgr.shape[0]))
        frame = self._preprocess(bgr)
        pixels = frame.pixels.copy() if self._changes is None else self._changes[index].apply(frame.pixels)
        return replace(frame, pixels=pixels)


def leave_out_labelled(frames: FrameSets, labels: Dataset, spec: DetectorSpec) -> FrameSets:
    """Return the frames without those that are labelled images, since a verdict needs pictures that are new.

    Raises InputError where fewer than half of the frames to calibrate on would be left, and where a labelled image
    cannot be read.
    """
    pictures = LabelledFrames(labels.images, spec)
    labelled: dict[str, str] = {}  # hash of a frame -> the picture's name
    failures = list(labels.failures)
    for index, image in enumerate(labels.images):
        try:
            labelled[sha256_of_frame(pictures[index])] = image.path.name
        except SourceError as error:
            failures.append(str(error).rstrip("."))
    if failures:
        raise InputError(f"{len(failures)} labelled images cannot be judged: {failures[0]}; mend or remove them.")
    both = [name for frame in (*frames.calibrate, *frames.select) if (name := labelled.get(sha256_of_frame(frame)))]
    if not both:
        return frames
    calibrate, select = (
        tuple(frame for frame in some if sha256_of_frame(frame) not in labelled)
        for some in (frames.calibrate, frames.select)
    )
    if 2 * len(calibrate) < len(frames.calibrate):
        raise InputError(
            f"{len(both)} of the {len(labels.images)} labelled images are calibration frames, too (first: {both[0]}): "
            "the verdict needs other pictures; take them out of --calib or of --data."
        )
    note = (
        f"{len(both)} frames of --calib are labelled images, so they are used for the verdict and not for calibration"
    )
    return replace(frames, calibrate=calibrate, select=select, notes=(*frames.notes, note))
