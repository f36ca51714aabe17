"""Write the INT8 files of a float ONNX file, and keep those that pass the accuracy gate.

NAME_int8.onnx: sparse Q/DQ for TensorRT up to 10. NAME_int8_fp16.onnx: the same for strong typing (TensorRT 11), with
FP16 scales. NAME_int8.tflite: full INT8 for ARM. Each file is judged as it was written, by its own engine; a file that
does not pass does not get its name.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.placement.plan import check_keep_float
from edgedet.calibration.quantise import Quantised, quantise
from edgedet.calibration.ranges.frames import FrameSets, take_calibration_frames
from edgedet.errors import EdgeDetError, InputError, PartialFailure, VerificationError
from edgedet.export.int8.centre import Centring
from edgedet.export.int8.files import SPARSE, TFLITE, TYPED, Form
from edgedet.export.int8.gate import Gate, leave_out_labelled
from edgedet.export.int8.options import Int8Options
from edgedet.export.int8.picture import BOXES_SUFFIX
from edgedet.export.int8.revert import Selector, revert_layers
from edgedet.export.int8.steps import RUNNING_FLOAT, comparing, costs_of_steps, gating, selecting
from edgedet.export.int8.workers import Workers, open_here
from edgedet.export.onnx_file import read_graph
from edgedet.files import atomic_path, sha256_of
from edgedet.job_time import Job
from edgedet.judge.gate.verdict import FAILED, PASSED, UNSURE, Verdict
from edgedet.progress import Say, begin_step, whole_job

NAMED_LAYERS = 3  # so many layers are named where a file failed


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
    kept_as: the name under which it was kept (``--keep-rejected``), else None.
    """

    path: str
    gate: dict[str, Any]
    kept_as: str | None


@dataclass(frozen=True)
class Int8Outcome:
    """The INT8 files that passed and those that did not; ``worst``: the layers that cost most, where a file failed."""

    written: list[Int8Result]
    refused: list[Refused]
    worst: list[str]

    def error(self) -> EdgeDetError | None:
        """Return the command's error: VerificationError where no file passed, PartialFailure where only some did."""
        if not self.refused:
            return None
        names: dict[str, list[str]] = {}  # of each description, since all files may share it
        for item in self.refused:
            names.setdefault(_describe(item), []).append(Path(item.path).name)
        reasons = "; ".join(f"{', '.join(files)} {description}" for description, files in names.items())
        worst = f"; most is lost in {', '.join(self.worst)}" if self.worst else ""
        count = f"{len(self.refused)} of {len(self.refused) + len(self.written)} INT8 files were refused"
        unsure = any(item.gate["verdict"] == UNSURE for item in self.refused)
        force = " edgedet export --force keeps files whose verdict is UNSURE." if unsure else ""
        kind = PartialFailure if self.written else VerificationError
        return kind(f"{count}: {reasons}{worst}.{force}")


def _describe(item: Refused) -> str:
    gate = item.gate
    reason = f"{gate['reason']}; {gate['remedy']}" if gate["reason"] else _describe_shortfall(gate)
    return f"{gate['verdict']} ({reason}{f'; kept as {item.kept_as}' if item.kept_as else ''})"


def _describe_shortfall(gate: dict[str, Any]) -> str:
    value = "unknown" if gate["value"] is None else f"{gate['value']:.4f}"
    return f"{gate['figure']} {value}, at least {gate['required']:g} passes"


def read_float_model(path: Path) -> tuple[onnx.ModelProto, ArtifactMeta]:
    """Read a float ONNX file that edgedet wrote, as ``read_graph``; raises InputError for any other."""
    model, meta = read_graph(path)
    if meta.precision != "fp32":
        raise InputError(f"{path} is {meta.precision} already: wanted the float file beside it.")
    return model, meta


def export_int8(
    float_path: Path,
    model: onnx.ModelProto,
    meta: ArtifactMeta,
    options: Int8Options,
    say: Say,
    workers: Workers | None = None,
) -> Int8Outcome:
    """Write the INT8 files beside the float one; ``model`` is the float graph and ``meta`` its metadata.

    say: called with a line for each step and each verdict.
    workers: observe the frames and run the files that are judged; None: this process does.
    A file that passes stays, whatever becomes of the others. One that does not pass replaces no earlier file: that is
    removed, too, because it belongs to other weights or frames.
    Raises InputError where labels or frames cannot be used.
    """
    check_keep_float(model, options.keep_float)
    frames = take_calibration_frames(
        options.calib, meta.spec, options.frames, options.seed, options.is_demo and options.calib is None
    )
    if options.labels is not None:
        frames = leave_out_labelled(frames, options.labels, meta.spec)
    for note in frames.notes:
        print(f"edgedet: {note}", file=sys.stderr)
    forms = [SPARSE, TYPED, TFLITE]
    if find_spec("ai_edge_litert") is None:
        print(
            "edgedet: no .tflite file is written, because LiteRT is not installed: pip install 'edgedet[tflite]'",
            file=sys.stderr,
        )
        forms.remove(TFLITE)
    with ExitStack() as stack:
        stack.enter_context(whole_job(Job(costs_of_steps(options, frames, forms))))
        begin_step(RUNNING_FLOAT, say)
        open_detector = partial(open_here, threads=options.threads) if workers is None else workers.open_detector
        float_detector = stack.enter_context(closing(open_detector(float_path)))
        gate = Gate(float_detector, meta, frames, options, say, open_detector)
        foreseen = None if options.force or options.keep_rejected else gate.foresee()
        if foreseen is not None:
            return _refuse_all([_int8_path(float_path, form) for form in forms], foreseen)
        quantised = quantise(
            model,
            meta.spec,
            [frame.pixels for frame in frames.calibrate],
            meta.source_sha256,
            options.recovery,
            options.table,
            options.keep_float,
            options.observer,
            say,
            None if workers is None else workers.observe_frames,
        )
        quantised.table.save(float_path.with_name(f"{float_path.stem}_int8.table.json"))
        selector = Selector(float_detector, meta, frames.select, options.score, open_detector)
        centring = Centring(float_detector, meta, frames.calibrate, open_detector)
        chosen = {}
        for form in forms:  # NAME_int8_fp16.onnx has the same layers and biases as the other sparse file
            if form.placement not in chosen:
                if options.recovery != "none":
                    begin_step(comparing(form), say)
                    quantised, errors = centring.centre(quantised, form)
                    say(f"{form.suffix}: {errors.line()}")
                begin_step(selecting(form), say)
                chosen[form.placement] = revert_layers(quantised, form, selector, options.revert, say)
        written: list[Int8Result] = []
        refused: list[Refused] = []
        for form in forms:
            path = _int8_path(float_path, form)
            begin_step(gating(form), say, f"judging {path.name}")
            result = _write_and_judge(path, meta, *chosen[form.placement], form, gate, frames, options)
            if isinstance(result, Int8Result):
                written.append(result)
            else:
                refused.append(result)
            say(f"{path}: {Verdict(**result.gate).line()}")
    failed = any(item.gate["verdict"] == FAILED for item in refused)
    worst = selector.order(quantised)[:NAMED_LAYERS] if failed and frames.select else []
    return Int8Outcome(written, refused, worst)


def _int8_path(float_path: Path, form: Form) -> Path:
    return float_path.with_name(f"{float_path.stem}_int8{form.suffix}")


def _refuse_all(paths: list[Path], verdict: Verdict) -> Int8Outcome:
    """Make no file, and remove those of an earlier export: they belong to other weights or frames."""
    for path in paths:
        path.unlink(missing_ok=True)
    return Int8Outcome([], [Refused(str(path), verdict.to_dict(), None) for path in paths], [])


def _write_and_judge(
    path: Path,
    meta: ArtifactMeta,
    quantised: Quantised,
    floats: list[str],
    form: Form,
    gate: Gate,
    frames: FrameSets,
    options: Int8Options,
) -> Int8Result | Refused:
    """Write one file and let the gate judge it; ``floats`` are the layers that went back to float."""
    int8_meta = replace(meta, precision="int8", report={})
    share = quantised.mac_shares[form.placement]
    rejected = path.with_name(f"{path.name}.rejected")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".int8-") as folder:
        temporary = Path(folder) / path.name
        form.write(quantised, int8_meta, temporary)
        verdict = gate.judge(temporary)
        if options.pictures:
            gate.draw(path.with_name(f"{path.name}{BOXES_SUFFIX}"))
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
