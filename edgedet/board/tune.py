"""Find the fastest TensorRT engine of a model whose detections agree with the ONNX file's.

Each recipe is built, run on frames, judged against the ONNX file as onnxruntime runs it, and timed.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from .. import demo
from ..artifact import ArtifactMeta
from ..engines.base import Engine, default_threads, open_engine
from ..engines.onnx_file import OnnxFile, read_onnx
from ..engines.tensorrt.board import Board
from ..engines.tensorrt.build import BuildOptions, Recipe
from ..engines.tensorrt.cuda import open_cuda
from ..engines.tensorrt.engine import TrtEngine
from ..engines.tensorrt.engine_file import add_to_report, build_engine, read_engine
from ..errors import (
    EdgeDetError,
    MissingDependency,
    SourceError,
    UnsupportedError,
    VerificationError,
    require,
)
from ..judge.pseudo_labels import detections_on
from ..judge.reference import FloatReference
from ..judge.verdict import FAILED, MIN_BOXES, PASSED, UNSURE
from ..preprocess import Preprocessor
from ..progress import Say
from ..specs import DetectorSpec
from ..stream.sources import open_source
from ..types import ModelInput

LEAST_FRAMES, MOST_FRAMES = 16, 64  # to judge on; 16 of the demo's clip hold about 100 boxes
ENOUGH_BOXES = 2 * MIN_BOXES
MOST_STRIDE = 30  # between frames of a video or camera: about a second
NOT_BUILT = "NOT BUILT"
RUNS, WARMUP = 50, 10  # of the network alone, a recipe
INT8_SUFFIX, TYPED_SUFFIX = "_int8", "_fp16"


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


def recipes(onnx: OnnxFile, precision: Optional[str], tune: bool) -> List[Recipe]:
    """Return what is to be tried, in the table's order.

    precision: "int8", "fp16" or "fp32"; None: what the file is for (FP16 for a float file).
    """
    path, float_path = str(onnx.path), _float_file(onnx)
    fp16 = Recipe("fp16", str(float_path) if float_path is not None and not onnx.typed else path, "fp16")
    if onnx.meta.precision != "int8":
        return [Recipe("fp32", path, "fp32") if precision == "fp32" else fp16]
    if precision == "fp16":
        return [fp16]
    if precision == "fp32":
        return [Recipe("fp32", path if float_path is None else str(float_path), "fp32")]
    as_written = Recipe("int8", path, "int8")
    if not tune:
        return [as_written]
    table = onnx.path.with_name(f"{_without_suffix(onnx)}.table.json")
    ranges = str(table)
    everything = [
        Recipe("int8, all", path, "int8", ranges=ranges),
        Recipe("int8, all, dense", path, "int8", ranges=ranges, dense=True),
    ]
    return [
        *(everything if table.is_file() else ()),
        as_written,
        Recipe("int8, dense", path, "int8", dense=True),
        Recipe("int8, fpn and heads fp16", path, "int8", ("fpn", "heads")),
        fp16,
    ]


def _float_file(onnx: OnnxFile) -> Optional[Path]:
    """Return the float file that an INT8 one was made beside, where it is there and of the same checkpoint."""
    name = _without_suffix(onnx)
    path = onnx.path.with_name(f"{name[: -len(INT8_SUFFIX)]}.onnx") if name.endswith(INT8_SUFFIX) else None
    if path is None or not path.is_file():
        return None
    try:
        float_onnx = read_onnx(path)
    except EdgeDetError:
        return None
    same = float_onnx.meta.source_sha256 == onnx.meta.source_sha256 and float_onnx.meta.spec == onnx.meta.spec
    return path if same and float_onnx.meta.precision == "fp32" else None


def _without_suffix(onnx: OnnxFile) -> str:
    """Return NAME_int8 of NAME_int8.onnx and of NAME_int8_fp16.onnx."""
    stem = onnx.path.stem
    return stem[: -len(TYPED_SUFFIX)] if onnx.typed and stem.endswith(TYPED_SUFFIX) else stem


def reference_of(onnx: OnnxFile, source: Optional[str], score: float, force: bool) -> Reference:
    """Run the float file, or the INT8 one where that is all there is, on frames of ``source`` (None: the demo's clip).

    More frames are taken until there are boxes enough. Unless ``force``, raises MissingDependency without onnxruntime
    and VerificationError where there are too few boxes, before minutes go into building.
    """
    path = _float_file(onnx) or onnx.path
    frames: List[ModelInput] = []
    try:
        require("onnxruntime", f"judging an engine of {onnx.path.name} (or --force to keep it unjudged)")
    except MissingDependency:
        if not force:
            raise
        return Reference(path.name, list(islice(_frames(onnx.meta.spec, source), LEAST_FRAMES)), onnx.meta, None)
    meta, engine = open_engine(path, default_threads())
    boxes = 0
    with closing(engine):
        for frame in _frames(meta.spec, source):
            frames.append(frame)
            boxes += len(detections_on(engine.infer, meta, [frame], score)[0])
            if len(frames) >= LEAST_FRAMES and boxes >= ENOUGH_BOXES:
                break
        model = FloatReference(partial(detections_on, engine.infer, meta), frames, score)
        model.detections(len(frames))  # now: the board has no memory for this engine beside those that are built
    if boxes < MIN_BOXES and not force:
        raise VerificationError(
            f"nothing to judge by: {path.name} finds {boxes} boxes at score {score:g} on {len(frames)} frames; "
            f"{MIN_BOXES} are needed. Give frames of the scene (--source), a lower --score, or --force."
        )
    return Reference(path.name, frames, meta, model)


def _frames(spec: DetectorSpec, source: Optional[str]) -> Iterator[ModelInput]:
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


def measure(engine: Engine, frames: Sequence[ModelInput]) -> List[float]:
    """Return milliseconds of RUNS runs, after WARMUP that do not count."""
    times_ms = []
    for index in range(WARMUP + RUNS):
        started = time.perf_counter()
        engine.infer(frames[index % len(frames)].pixels)
        times_ms.append((time.perf_counter() - started) * 1e3)
    return times_ms[WARMUP:]


def build_best(
    trt: Any,
    board: Board,
    tried: Sequence[Recipe],
    options: BuildOptions,
    reference: Reference,
    out: Path,
    force: bool,
    say: Say,
) -> List[Trial]:
    """Build every recipe, keep the fastest engine that passed at ``out``, and return all trials.

    force: what could not be judged may be kept, too.
    Raises VerificationError with all reasons where none passed; then an earlier file at ``out`` stays as it is.
    """
    trials: List[Trial] = []
    kept: Optional[Tuple[Trial, Path]] = None
    paths: List[Path] = []
    try:
        for recipe in tried:
            path = out.with_name(f".{out.stem}-{os.getpid()}-{len(trials)}{out.suffix}")
            paths.append(path)
            trial = _try(trt, board, recipe, options, reference, path)
            trials.append(trial)
            say(line_of(trial))
            usable = trial.verdict == PASSED or (force and trial.verdict == UNSURE)
            if usable and (kept is None or _p50(trial) < _p50(kept[0])):
                kept = (trial, path)
        if kept is None:
            raise _none_passed(trials)
        trials = [replace(trial, kept=trial is kept[0]) for trial in trials]
        meta, plan = read_engine(kept[1])
        add_to_report(out, meta, plan, {"trials": [asdict(trial) for trial in trials], "judged_by": reference.name})
    finally:
        for path in paths:
            if path.exists():
                path.unlink()
    return trials


def _p50(trial: Trial) -> float:
    return float("inf") if trial.p50_ms is None else trial.p50_ms


def _try(trt: Any, board: Board, recipe: Recipe, options: BuildOptions, reference: Reference, path: Path) -> Trial:
    try:
        _, built = build_engine(trt, board, recipe, options, path, {})
        with closing(opened(trt, path)) as engine:
            trial = reference.judge(engine)
            times_ms = measure(engine, reference.frames)
    except EdgeDetError as error:  # no kernel, no memory, a file or table that does not fit: others may go
        return Trial(recipe.name, NOT_BUILT, str(error))
    p50, p90 = (float(np.percentile(times_ms, share)) for share in (50, 90))
    return replace(trial, recipe=recipe.name, p50_ms=p50, p90_ms=p90, build_s=built.seconds, bytes=path.stat().st_size)


def opened(trt: Any, path: Path, **options: Any) -> TrtEngine:
    """Load an engine that was built here just now; ``options`` go to TrtEngine."""
    meta, plan = read_engine(path)
    cuda = open_cuda()
    try:
        return TrtEngine(trt, cuda, meta, plan, **options)
    except EdgeDetError:
        cuda.close()
        raise


def _none_passed(trials: Sequence[Trial]) -> EdgeDetError:
    built = [trial for trial in trials if trial.verdict != NOT_BUILT]
    if not built:
        return UnsupportedError("; ".join(dict.fromkeys(trial.reason for trial in trials)))
    reasons = "; ".join(f"{trial.recipe}: {trial.verdict}, {trial.reason.rstrip('.')}" for trial in built)
    unsure = any(trial.verdict == UNSURE for trial in built)
    hint = " Give frames of the scene (--source), a lower --score, or --force to keep one unjudged." if unsure else ""
    return VerificationError(f"no engine was kept. {reasons}.{hint}")


def line_of(trial: Trial) -> str:
    """Return a trial as a row of the table."""
    shown = f"{trial.recipe:<27}"
    p50 = "-" if trial.p50_ms is None else f"{trial.p50_ms:.2f}"
    share = "-" if trial.kept_ap is None else f"{trial.kept_ap:.4f}"
    reason = f"  {trial.reason}" if trial.reason else ""
    return f"{shown}{p50:>8}  {share:>7}  {trial.verdict}{reason}"


HEADER = f"{'recipe':<27}{'p50 ms':>8}  {'AP kept':>7}  verdict"
