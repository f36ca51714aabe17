"""What engines are judged by: frames of the scene, and what the model's ONNX file detects in them by onnxruntime."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Iterator, List, Optional

import numpy as np

from .. import demo
from ..artifact import ArtifactMeta
from ..engines.base import Engine, default_threads, open_engine
from ..engines.onnx_file import OnnxFile
from ..errors import MissingDependency, SourceError, VerificationError, require
from ..judge.agreement import keep_above
from ..judge.gate.pseudo_labels import detections_on
from ..judge.gate.reference import FloatReference
from ..judge.gate.verdict import FAILED, MIN_BOXES, UNSURE
from ..preprocess import Preprocessor
from ..specs import DetectorSpec
from ..stream.sources import open_source
from ..types import ModelInput
from .recipes import find_float_file

LEAST_FRAMES, MOST_FRAMES = 16, 64  # to judge on; 16 of the demo's clip hold about 100 boxes
ENOUGH_BOXES = 2 * MIN_BOXES
MOST_STRIDE = 30  # between frames of a video or camera: about a second


@dataclass(frozen=True)
class Trial:
    """One recipe and what came of it, as ``--json`` prints it.

    verdict: PASSED, FAILED, UNSURE or NOT_BUILT. reason: of what did not pass.
    kept_ap: share of the reference's AP that it keeps on the reference's own detections (``Verdict``).
    f1:      of its boxes against the reference's, at IoU 0.5.
    boxes:   that it was judged on.
    p50_ms:  of the network with its copies.
    """

    recipe: str
    verdict: str
    reason: str = ""
    kept_ap: Optional[float] = None
    f1: Optional[float] = None
    boxes: Optional[int] = None
    p50_ms: Optional[float] = None
    p90_ms: Optional[float] = None
    build_s: Optional[float] = None
    bytes: Optional[int] = None
    kept: bool = False


@dataclass(frozen=True, eq=False)
class Reference:
    """What engines are judged by: the ONNX file's detections. ``model`` is None where nobody could run the file.

    meta: of the file, whose rules of post-processing its engines follow.
    """

    name: str
    frames: List[ModelInput]
    meta: ArtifactMeta
    model: Optional[FloatReference]

    def judge(self, engine: Engine) -> Trial:
        """Return verdict and figures of an engine, without times."""
        if self.model is None:
            return Trial("", UNSURE, "onnxruntime is not here to say what the model detects")
        verdict = self.model.judge(partial(detections_on, engine.infer, self.meta))
        reason = f"{verdict.reason}; {verdict.remedy}" if verdict.reason else ""
        if verdict.verdict == FAILED:
            reason = f"keeps {0.0 if verdict.value is None else verdict.value:.3f} of AP, {verdict.required:g} passes"
        return Trial("", verdict.verdict, reason, verdict.value, verdict.f1, verdict.boxes)


def reference_of(onnx: OnnxFile, source: Optional[str], score: float, force: bool) -> Reference:
    """Run the float file, or the INT8 one where that is all there is, on frames of ``source`` (None: the demo's clip).

    More frames are taken until there are boxes enough. Unless ``force``, raises MissingDependency without onnxruntime
    and VerificationError where there are too few boxes, before minutes go into building.
    """
    path = find_float_file(onnx) or onnx.path
    try:
        require("onnxruntime", f"judging an engine of {onnx.path.name} (or --force to keep it unjudged)")
    except MissingDependency:
        if not force:
            raise
        return Reference(path.name, list(islice(frames_of(onnx.meta.spec, source), LEAST_FRAMES)), onnx.meta, None)
    meta, engine = open_engine(path, default_threads())
    # It is run now: the board has no memory for this engine beside those that are built.
    with closing(engine):
        more = frames_of(meta.spec, source)
        model = FloatReference(partial(detections_on, engine.infer, meta), list(islice(more, LEAST_FRAMES)), score)
        while (boxes := _count_boxes(model)) < ENOUGH_BOXES and (frame := next(more, None)) is not None:
            model.add(frame)
    if boxes < MIN_BOXES and not force:
        raise VerificationError(
            f"an engine cannot be judged: {path.name} detects {boxes} objects at score {score:g} on "
            f"{len(model.frames)} frames, and {MIN_BOXES} are needed. "
            "Give frames of the scene (--source), a lower --score, or --force."
        )
    return Reference(path.name, model.frames, meta, model)


def _count_boxes(model: FloatReference) -> int:
    """Return how many boxes the model finds on all its frames at the user's score."""
    return sum(len(keep_above(detections, model.score)) for detections in model.detections(len(model.frames)))


def frames_of(spec: DetectorSpec, source: Optional[str]) -> Iterator[ModelInput]:
    """Yield up to MOST_FRAMES pictures as the network takes them, spread over the source; raises SourceError."""
    preprocess = Preprocessor(spec)

    def model_input(bgr: np.ndarray) -> ModelInput:
        prepared = preprocess(bgr)
        return replace(prepared, pixels=prepared.pixels.copy())

    if source is None:
        # in an order that is spread over the clip wherever it is left off
        pictures = demo.clip_frames(MOST_FRAMES)
        yield from map(model_input, (pictures[index] for start in range(4) for index in range(start, MOST_FRAMES, 4)))
        return
    with closing(open_source(source, lambda: False)) as opened:
        images = opened.total is not None and not opened.fps
        stride = 1 if images else min(max((opened.total or MOST_FRAMES * MOST_STRIDE) // MOST_FRAMES, 1), MOST_STRIDE)
        count = 0
        for frame in islice(opened, 0, MOST_FRAMES * stride, stride):
            yield model_input(frame.bgr)
            count += 1
        if not count:
            raise SourceError(f"{source} gave no frame: name a video, folder or camera of the scene.")
