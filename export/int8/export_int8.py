"""Float ONNX file -> INT8 files that passed the gate. Knows which file serves which engine; knows no argv.

NAME_int8.onnx: sparse Q/DQ for TensorRT up to 10. NAME_int8_fp16.onnx: the same for strong typing (TensorRT 11), with
FP16 scales. NAME_int8.tflite: full INT8 for ARM. Each file is judged as it was written, by its own engine, and only one
that passes gets its name.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from edgedet.artifact import META_KEY, ArtifactMeta
from edgedet.calibration.placement.plan import check_keep_float
from edgedet.calibration.placement.table import CalibrationTable
from edgedet.calibration.quantise import KEEP_FLOAT, Quantised, quantise
from edgedet.calibration.ranges.frames import FrameSets, sha256_of_frame, take_calibration_frames
from edgedet.detector import Detector
from edgedet.engines.base import Engine, open_engine
from edgedet.errors import EdgeDetError, InputError, PartialFailure, SourceError, VerificationError
from edgedet.export.int8.files import SPARSE, TFLITE, TYPED, Form
from edgedet.export.int8.revert import MOST, Selector, revert_layers
from edgedet.files import atomic_path, sha256_of
from edgedet.judge.labels import Dataset, match_classes
from edgedet.judge.matching import match_dataset
from edgedet.judge.perturbation import PerturbedEngine
from edgedet.judge.reference import FloatReference, spread
from edgedet.judge.verdict import FAILED, LABELS_SCORE_FLOOR, PASSED, UNSURE, Verdict, is_settled, verdict_on_labels
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
    force:      keep files whose verdict is UNSURE.
    revert:     layers that go back to float at most where the select frames are not passed.
    keep_rejected: leave files that did not pass under NAME.rejected, to look at them.
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
    keep_rejected: bool = False
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


@dataclass(frozen=True)
class Refused:
    """One INT8 file that did not pass, as ``--json`` prints it.

    path:    the name that the file would have.
    kept_as: where it is all the same (``--keep-rejected``), else None.
    """

    path: str
    gate: dict[str, Any]
    kept_as: str | None


@dataclass(frozen=True)
class Int8Outcome:
    """What became of the INT8 files; ``worst`` are the layers that cost most, where a file failed."""

    written: list[Int8Result]
    refused: list[Refused]
    worst: list[str]

    def error(self) -> EdgeDetError | None:
        """Return what a command fails with: VerificationError where no file passed, PartialFailure where some did."""
        if not self.refused:
            return None
        told = "; ".join(_told(item) for item in self.refused)
        worst = f"; most is lost in {', '.join(self.worst)}" if self.worst else ""
        count = f"{len(self.refused)} of {len(self.refused) + len(self.written)} INT8 files were refused"
        unsure = any(item.gate["verdict"] == UNSURE for item in self.refused)
        force = " --force keeps files whose verdict is UNSURE." if unsure else ""
        kind = PartialFailure if self.written else VerificationError
        return kind(f"{count}: {told}{worst}.{force}")


def _told(item: Refused) -> str:
    gate, name = item.gate, Path(item.path).name
    reason = f"{gate['reason']}; {gate['remedy']}" if gate["reason"] else _shortfall(gate)
    return f"{name} {gate['verdict']} ({reason}{f'; kept as {item.kept_as}' if item.kept_as else ''})"


def _shortfall(gate: dict[str, Any]) -> str:
    value = "unknown" if gate["value"] is None else f"{gate['value']:.4f}"
    return f"{gate['figure']} {value}, at least {gate['required']:g} passes"


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
) -> Int8Outcome:
    """Write the INT8 files beside the float one; ``model`` is the float graph and ``meta`` its metadata.

    say: told each step and each verdict, a line each.
    Files that pass stay, whatever the others do; of a file that does not pass not even an earlier one stays.
    Raises InputError where labels or frames cannot be used.
    """
    check_keep_float(model, options.keep_float)
    table = None if options.table is None else CalibrationTable.load(options.table)
    frames = take_calibration_frames(
        options.calib, meta.spec, options.frames, options.seed, options.is_demo and options.calib is None
    )
    for note in frames.notes:
        print(f"edgedet: {note}", file=sys.stderr)
    if options.labels is not None:
        _refuse_overlap(frames, options.labels, meta.spec)
    pixels = [frame.pixels for frame in frames.calibrate]
    quantised = quantise(
        model, meta.spec, pixels, meta.source_sha256, options.recovery, table, options.keep_float, options.observer, say
    )
    quantised.table.save(float_path.with_name(f"{float_path.stem}_int8.table.json"))
    forms = [SPARSE, TYPED, TFLITE]
    if find_spec("ai_edge_litert") is None:
        print("edgedet: no .tflite file: it needs pip install 'edgedet[tflite]'", file=sys.stderr)
        forms.remove(TFLITE)
    with ExitStack() as stack:
        float_engine = stack.enter_context(closing(open_engine(float_path, options.threads)[1]))
        selector = Selector(float_engine, meta, frames.select, options.score, options.threads)
        judge = _Judge(float_engine, meta, frames, options, say)
        chosen = {}
        for form in forms:  # NAME_int8_fp16.onnx has the same layers as the other sparse file
            if form.placement not in chosen:
                chosen[form.placement] = revert_layers(quantised, form, selector, options.revert, say)
        written: list[Int8Result] = []
        refused: list[Refused] = []
        for form in forms:
            path = float_path.with_name(f"{float_path.stem}_int8{form.suffix}")
            made = _write_and_judge(path, meta, *chosen[form.placement], form, judge, frames, options)
            if isinstance(made, Int8Result):
                written.append(made)
            else:
                refused.append(made)
            say(f"{path}: {Verdict(**made.gate).line()}")
    failed = any(item.gate["verdict"] == FAILED for item in refused)
    worst = selector.order(quantised)[:NAMED] if failed and frames.select else []
    return Int8Outcome(written, refused, worst)


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
    path: Path,
    meta: ArtifactMeta,
    quantised: Quantised,
    floats: list[str],
    form: Form,
    judge: _Judge,
    frames: FrameSets,
    options: Int8Options,
) -> Int8Result | Refused:
    """Write one file and judge it; ``floats`` are the layers that went back to float."""
    int8_meta = replace(meta, precision="int8", report={})
    share = quantised.mac_shares[form.placement]
    rejected = path.with_name(f"{path.name}.rejected")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".int8-") as folder:
        temporary = Path(folder) / path.name
        form.write(quantised, int8_meta, temporary)
        verdict = judge(temporary)
        report = {
            "gate": verdict.to_dict(),
            "frames": frames.to_dict(),
            "int8_mac_share": share,
            "recovery": options.recovery,
            "reverted": floats,
        }
        passed = verdict.verdict == PASSED or (verdict.verdict == UNSURE and options.force)
        path.unlink(missing_ok=True)  # an earlier export's: it belongs to other weights or frames
        rejected.unlink(missing_ok=True)
        if not passed and not options.keep_rejected:
            return Refused(str(path), verdict.to_dict(), None)
        target = path if passed else rejected
        with atomic_path(target) as whole:
            form.write(quantised, replace(int8_meta, report=report), temporary)
            shutil.copyfile(temporary, whole)
    if not passed:
        return Refused(str(path), verdict.to_dict(), str(rejected))
    return Int8Result(str(path), path.stat().st_size, sha256_of(path), share, verdict.to_dict(), floats)


class _Judge:
    """Judges files on the gate's frames, or on labelled pictures; what the float file detects is measured once."""

    def __init__(
        self,
        float_engine: Engine,
        meta: ArtifactMeta,
        frames: FrameSets,
        options: Int8Options,
        say: Callable[[str], None],
    ) -> None:
        self._options, self._meta, self._say = options, meta, say
        self._class_map = match_classes(options.labels, meta.class_names) if options.labels else ()
        if options.labels is None:
            self._reference = FloatReference(float_engine.infer, meta, spread(frames.gate), options.score, say)
        else:
            self._float_detections = self._detect_labelled(float_engine)
            self._float_ap = self._ap(self._float_detections)

    def __call__(self, path: Path) -> Verdict:
        options = self._options
        _, engine = open_engine(path, options.threads)
        with closing(engine):
            if options.labels is None:
                return self._reference.judge(engine.infer, options.seed)
            runs: list[list[Detections]] = []
            aps: list[float] = []
            for seed in range(RUNS[path.suffix]):
                runs.append(self._detect_labelled(PerturbedEngine(engine, seed)))
                aps.append(self._ap(runs[-1]))
                if is_settled(aps, (1.0 - options.max_drop / 100.0) * self._float_ap):
                    self._say(f"{path.name}: {len(runs)} of {RUNS[path.suffix]} runs tell enough")
                    break
        return verdict_on_labels(
            options.labels.images,
            self._float_detections,
            runs,
            self._class_map,
            options.score,
            options.seed,
            options.max_drop,
        )

    def _ap(self, detections: list[Detections]) -> float:
        assert self._options.labels is not None
        judged = match_dataset(self._options.labels.images, detections, self._class_map)
        return judged.compute_ap(np.ones(len(detections))) or 0.0

    def _detect_labelled(self, engine: Engine) -> list[Detections]:
        from edgedet.judge.average_precision import detect_images

        labels = self._options.labels
        assert labels is not None
        detector = Detector((self._meta, engine), self._options.threads, LABELS_SCORE_FLOOR)
        done, failures = detect_images(detector, with_progress(labels.images, "judging", "image"))
        failures = [*labels.failures, *failures]
        if failures:
            raise InputError(f"{len(failures)} labelled images cannot be judged: {failures[0]}; mend or remove them.")
        return [detections for _, detections in done]
