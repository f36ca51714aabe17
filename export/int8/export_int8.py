"""Float ONNX file -> INT8 files that passed the gate. Knows which file serves which engine; knows no argv.

NAME_int8.onnx: sparse Q/DQ for TensorRT up to 10. NAME_int8_fp16.onnx: the same for strong typing (TensorRT 11), with
FP16 scales. NAME_int8.tflite: full INT8 for ARM. Each file is judged as it was written, by its own engine; a file that
fails is not kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from edgedet.artifact import META_KEY, ArtifactMeta
from edgedet.calibration.placement.plan import check_keep_float
from edgedet.calibration.placement.table import CalibrationTable
from edgedet.calibration.quantise import KEEP_FLOAT, Quantised, quantise
from edgedet.calibration.ranges.frames import FrameSets, calibration_frames, sha256_of_frame
from edgedet.detector import Detector
from edgedet.engines.base import Engine, open_engine
from edgedet.errors import InputError, SourceError, VerificationError
from edgedet.export.int8.files import SPARSE, TFLITE, TYPED, Form
from edgedet.export.int8.revert import MOST, Selector, reverted
from edgedet.files import atomic_path, sha256_of
from edgedet.judge.agreement import FAILED, PASSED, UNVERIFIED, find
from edgedet.judge.gate import FLOOR_SHARE, LABELS_SCORE_FLOOR, GateReport, compare, compare_on_labels
from edgedet.judge.labels import Dataset, match_classes
from edgedet.judge.perturbation import Changed
from edgedet.postprocess import DEFAULT_SCORE
from edgedet.preprocess import Preprocessor
from edgedet.progress import with_progress
from edgedet.specs import DetectorSpec
from edgedet.stream.sources import read_image
from edgedet.types import Detections

# Runs over the labelled images, each changed a little, whose mean AP is judged. One run's AP is chance to half a point
# (docs/int8.md); onnxruntime without its optimisations is ten times slower.
RUNS = {".tflite": 8, ".onnx": 3}
NAMED = 3  # layers that a refusal names


@dataclass(frozen=True)
class Int8Options:
    """How to quantise and how to judge, as the command line says.

    calib:      source of frames; None: the demo's clip for the demo, else scikit-image's photographs.
    frames:     number of them.
    recovery:   "none", "fast" or "full" (``quantise``).
    observer:   how ranges are chosen, of ``observe.OBSERVERS``.
    keep_float: what TensorRT's files leave float: classes of ``plan.OP_CLASSES``, or layers by name.
    table:      an earlier table to use instead of new ranges.
    labels:     labelled images to judge on; None: the float model's detections are the truth.
    score:      the user's score threshold.
    max_drop:   per cent of float AP that may be lost, with labels.
    force:      keep files whose verdict is UNVERIFIED.
    revert:     layers that go back to float at most where the select frames are not passed.
    """

    calib: str | None = None
    frames: int = 128
    seed: int = 0
    recovery: str = "fast"
    observer: str = "mixed"
    keep_float: tuple[str, ...] = KEEP_FLOAT
    table: Path | None = None
    labels: Dataset | None = None
    score: float = DEFAULT_SCORE
    max_drop: float = 1.0
    force: bool = False
    revert: int = MOST
    threads: int = 1
    is_demo: bool = False


@dataclass(frozen=True)
class Int8Result:
    """One INT8 file that was written, as ``--json`` prints it."""

    path: str
    bytes: int
    sha256: str
    int8_mac_share: float
    gate: dict[str, Any]
    reverted: list[str]


def float_model(path: Path) -> tuple[onnx.ModelProto, ArtifactMeta]:
    """Read a float ONNX file that edgedet wrote; raises InputError for any other."""
    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise InputError(f"{path} cannot be read as ONNX ({error}): wanted a float file of edgedet export.") from None
    text = {item.key: item.value for item in model.metadata_props}.get(META_KEY)
    if text is None:
        raise InputError(f"{path} was not written by edgedet export: export the checkpoint with it.")
    meta = ArtifactMeta.from_json(text)
    if meta.precision != "fp32":
        raise InputError(f"{path} is {meta.precision} already: wanted the float file beside it.")
    return model, meta


def export_int8(
    float_path: Path, model: onnx.ModelProto, meta: ArtifactMeta, options: Int8Options, say: Callable[[str], None]
) -> list[Int8Result]:
    """Write the INT8 files beside the float one; ``model`` is the float graph and ``meta`` its metadata.

    say: told each step and each verdict, a line each.
    Raises VerificationError, with every verdict, where a file failed; files that passed stay, and of a file that failed
    not even an earlier one stays. Raises InputError where labels or frames cannot be used.
    """
    check_keep_float(model, options.keep_float)
    table = None if options.table is None else CalibrationTable.load(options.table)
    frames = calibration_frames(
        options.calib, meta.spec, options.frames, options.seed, options.is_demo and options.calib is None
    )
    for note in frames.notes:
        print(f"edgedet: {note}", file=sys.stderr)
    if options.labels is not None:
        _refuse_overlap(frames, options.labels, meta.spec)
    judge = _Judge(float_path, meta, frames, options)
    pixels = [frame.pixels for frame in frames.calibrate]
    quantised = quantise(
        model, meta.spec, pixels, meta.source_sha256, options.recovery, table, options.keep_float, options.observer, say
    )
    quantised.table.save(float_path.with_name(f"{float_path.stem}_int8.table.json"))
    forms = [SPARSE, TYPED, TFLITE]
    if find_spec("ai_edge_litert") is None:
        print("edgedet: no .tflite file: it needs pip install 'edgedet[tflite]'", file=sys.stderr)
        forms.remove(TFLITE)
    selector = Selector(float_path, meta, frames.select, options.score, options.threads)
    chosen = {
        form.placement: reverted(quantised, form, selector, options.revert, say)
        for form in forms if form is not TYPED  # the same layers as in the other sparse file
    }  # fmt: skip
    written, refused, failed = [], [], False
    for form in forms:
        path = float_path.with_name(f"{float_path.stem}_int8{form.suffix}")
        result, verdict = _write_and_judge(path, meta, *chosen[form.placement], form, judge, frames, options)
        say(f"{path}: {verdict.line()}")
        if result is None:
            failed = failed or verdict.verdict == FAILED
            value = "unknown" if verdict.value is None else f"{verdict.value:.4f}"
            refused.append(f"{path.name} {verdict.verdict}: {verdict.figure} {value}")
        else:
            written.append(result)
    if refused:
        worst = f"; most is lost in {', '.join(selector.order(quantised)[:NAMED])}" if failed and frames.select else ""
        hint = "; give more frames of the scene (--calib, --frames) or labels (--data)"
        raise VerificationError(
            f"refused and not kept: {'; '.join(refused)}{worst}{hint}, or --force where unverified."
        )
    return written


def _refuse_overlap(frames: FrameSets, labels: Dataset, spec: DetectorSpec) -> None:
    """Raise InputError where a labelled image is a calibration frame: the verdict would not be about new pictures."""
    seen = {sha256_of_frame(frame) for frame in (*frames.calibrate, *frames.select)}
    preprocess = Preprocessor(spec)
    both = []
    for image in labels.images:
        try:
            bgr = read_image(image.path)
        except SourceError:
            continue  # judging names it
        if sha256_of_frame(preprocess(bgr)) in seen:
            both.append(image.path.name)
    if both:
        raise InputError(
            f"{len(both)} of the {len(labels.images)} labelled images are calibration frames, too (first: {both[0]}): "
            "the verdict needs other pictures; take them out of --calib or of --data."
        )


def _write_and_judge(
    path: Path, meta: ArtifactMeta, quantised: Quantised, floats: list[str], form: Form, judge: _Judge,
    frames: FrameSets, options: Int8Options,
) -> tuple[Int8Result | None, GateReport]:  # fmt: skip
    """Write one file and judge it; ``floats`` are the layers that went back to float."""
    int8_meta = replace(meta, precision="int8", report={})
    share = quantised.mac_shares[form.placement]
    try:
        with atomic_path(path) as temporary:
            form.write(quantised, int8_meta, temporary)
            verdict = judge(temporary)
            report = {
                "gate": verdict.to_dict(),
                "frames": frames.report(),
                "int8_mac_share": share,
                "recovery": options.recovery,
                "reverted": floats,
            }
            form.write(quantised, replace(int8_meta, report=report), temporary)
            if not (verdict.verdict == PASSED or (verdict.verdict == UNVERIFIED and options.force)):
                raise _Refused
    except _Refused:
        path.unlink(missing_ok=True)  # an earlier export's: it belongs to other weights or frames
        return None, verdict
    result = Int8Result(str(path), path.stat().st_size, sha256_of(path), share, verdict.to_dict(), floats)
    return result, verdict


class _Refused(Exception):
    """Leaves ``atomic_path`` without keeping the file."""


class _Judge:
    """Holds what the float file finds, so that it runs once."""

    def __init__(self, float_path: Path, meta: ArtifactMeta, frames: FrameSets, options: Int8Options) -> None:
        self._frames, self._options = frames, options
        self._class_map = match_classes(options.labels, meta.class_names) if options.labels else ()
        self._found = self._detect(float_path)[0]

    def __call__(self, path: Path) -> GateReport:
        options = self._options
        if options.labels is None:
            return compare(self._found, self._detect(path)[0], options.score, options.seed)
        found = self._detect(path, RUNS[path.suffix])
        return compare_on_labels(
            options.labels.images, self._found, found, self._class_map, options.score, options.seed, options.max_drop
        )

    def _detect(self, path: Path, changes: int = 0) -> list[list[Detections]]:
        """Return what a file finds in each picture, in one run, or in a run for each change of the pictures."""
        meta, engine = open_engine(path, self._options.threads)
        with closing(engine):
            if self._options.labels is None:
                frames = with_progress(self._frames.gate, "judging", "frame")
                return [find(engine.infer, meta.spec, frames, self._options.score * FLOOR_SHARE)]
            if not changes:
                return [self._detect_labelled((meta, engine))]
            return [self._detect_labelled((meta, Changed(engine, seed))) for seed in range(changes)]

    def _detect_labelled(self, model: tuple[ArtifactMeta, Engine]) -> list[Detections]:
        from edgedet.judge.average_precision import detect_images

        labels = self._options.labels
        assert labels is not None
        detector = Detector(model, self._options.threads, LABELS_SCORE_FLOOR)
        done, failures = detect_images(detector, with_progress(labels.images, "judging", "image"))
        failures = [*labels.failures, *failures]
        if failures:
            raise InputError(f"{len(failures)} labelled images cannot be judged: {failures[0]}; mend or remove them.")
        return [found for _, found in done]
