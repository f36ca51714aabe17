"""Run a model on labelled pictures in several workers, with the results of ``detect_images`` in one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedet.benchmarks.cluster.shards import ClusterOptions, Lost, Throughput, ray_session, run_in_shards
from edgedet.benchmarks.cluster.shared_file import SharedFile, open_once
from edgedet.detector import Detector
from edgedet.errors import SourceError, require
from edgedet.judge.average_precision import SCORE_FLOOR, check_size
from edgedet.judge.labels import LabelledImage
from edgedet.postprocess import NmsRules
from edgedet.stream.images import decode_image
from edgedet.types import Detections


@dataclass(frozen=True)
class Model:
    """What every worker needs to open the model: the file, and Detector's arguments."""

    file: SharedFile
    threads: int
    soft_nms: bool
    nms: NmsRules | str | None


def detect_images_in_workers(
    model: str | Path,
    images: Sequence[LabelledImage],
    options: ClusterOptions,
    soft_nms: bool = False,
    nms: NmsRules | str | None = None,
    throughput: Throughput | None = None,
) -> tuple[list[tuple[LabelledImage, Detections]], list[str]]:
    """Return each image with its detections, and a line for each image that failed, in the order of ``images``.

    Each machine gets the model once, each worker the bytes of its own pictures.
    """
    file = SharedFile.of(Path(model).name, Path(model).read_bytes())
    shared = Model(file, options.threads, soft_nms, nms)
    with ray_session(options) as ray:
        results = run_in_shards(
            ray, detect_shard, shared, images, options, load_bytes, title="eval", throughput=throughput
        )
    detected: list[tuple[LabelledImage, Detections]] = []
    failures: list[str] = []
    for image, outcome in zip(images, results, strict=True):
        if isinstance(outcome, Detections):
            detected.append((image, outcome))
        else:
            failures.append(f"{image.path}: {outcome.reason}" if isinstance(outcome, Lost) else outcome)
    return detected, failures


def load_bytes(image: LabelledImage) -> tuple[LabelledImage, bytes | str]:
    """Return the image with its file's bytes, or why it has none."""
    try:
        return image, image.path.read_bytes()
    except OSError as error:
        return image, f"{image.path} cannot be read: {error.strerror or error}"


# --- in a worker -----------------------------------------------------------------------------------------------------


def detect_shard(model: Model, images: Sequence[tuple[LabelledImage, bytes | str]]) -> list[Detections | str]:
    """Return the detections of each image, or why there are none."""

    def open_detector(path: Path) -> Detector:
        require("cv2", "edgedet eval").setNumThreads(model.threads)
        return Detector(path, model.threads, SCORE_FLOOR, model.soft_nms, model.nms)

    detector = open_once(model.file, (model.threads, model.soft_nms, model.nms), open_detector)
    results: list[Detections | str] = []
    for image, data in images:
        if isinstance(data, str):
            results.append(data)
            continue
        try:
            bgr = decode_image(data, image.path)
            check_size(image, (bgr.shape[1], bgr.shape[0]))
        except SourceError as error:
            results.append(str(error).rstrip("."))
            continue
        results.append(detector(bgr))
    return results
