"""Quantisation-aware fine-tuning: a float checkpoint and labelled pictures to INT8 files of one form.

The network is calibrated as ``edgedet export --int8`` does it, and then trained while it rounds as the file will:
labels and the float network, as a teacher, say what it shall answer. Scales stay those of the calibration table. Where
the training lost AP on the validation images, the files hold the calibrated network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from torch import nn

from edgedet.artifact import ArtifactMeta
from edgedet.calibration.placement.plan import (
    DensePlan,
    SparsePlan,
    choose_centre,
    make_dense_plan,
    make_sparse_plan,
    read_initializers,
)
from edgedet.calibration.quantise import KEEP_FLOAT, Quantised, quantise
from edgedet.calibration.ranges.frames import FrameSets, thin_out
from edgedet.errors import VerificationError
from edgedet.export.checkpoints.checkpoint import Checkpoint, network_from_checkpoint
from edgedet.export.fusion.fuse import graph_from_network
from edgedet.export.fusion.top_anchors import MOST_TOP_ANCHORS
from edgedet.export.int8.files import SPARSE, TFLITE, TYPED, Form
from edgedet.export.int8.gate import Gate
from edgedet.export.int8.options import Int8Options
from edgedet.export.int8.workers import EngineDetector
from edgedet.files import atomic_path, sha256_of
from edgedet.judge.gate.verdict import PASSED, Verdict
from edgedet.judge.labels import Dataset, LabelledImage
from edgedet.progress import Say
from edgedet.specs import DetectorSpec
from edgedet.training.fit import STATE, FitOptions, FromPixels, Row, fit
from edgedet.training.int8.distil import make_teacher_loss
from edgedet.training.int8.fake_quantised import FakeQuantised
from edgedet.training.processes import Processes
from edgedet.training.records import show
from edgedet.training.samples import Pictures
from edgedet.training.validate import ModuleEngine, validate

FORMS: dict[str, tuple[Form, ...]] = {"tflite": (TFLITE,), "tensorrt": (SPARSE, TYPED)}
CALIBRATION_PICTURES = 64
RATE = 2e-4  # share of a weight that a step changes; docs/training.md compares it with 1e-3


@dataclass(frozen=True)
class Int8Training:
    """How a network is trained for INT8.

    target:  "tflite" or "tensorrt": which files are written.
    teacher: weight of the float network's answers beside the labels.
    force:   keep files that did not pass.
    """

    target: str
    fit: FitOptions
    teacher: float = 1.0
    force: bool = False


@dataclass(frozen=True)
class Int8TrainResult:
    """What quantisation-aware training gave.

    ap_float, ap_ptq, ap_qat: AP on the validation images of the float network, calibrated only, and trained.
    network: which one the files hold: "trained", or "calibrated" where that has the higher AP.
    files:  each file with its verdict.
    """

    ap_float: float | None
    ap_ptq: float | None
    ap_qat: float | None
    network: str | None
    files: list[dict[str, Any]]


def train_int8(
    checkpoint: Checkpoint,
    pictures: Pictures,
    val: Dataset,
    class_map: Sequence[int],
    how: Int8Training,
    group: Processes,
    out: Path,
    name: str,
    say: Say,
) -> Int8TrainResult:
    """Train the checkpoint for INT8 and write OUT/NAME_int8 files; a killed training goes on from OUT.

    pictures: to learn from; some of them, unchanged, calibrate. val: to judge on.
    Raises VerificationError where no file passes the gate.
    """
    spec, images = checkpoint.spec, val.images
    meta = ArtifactMeta(spec, checkpoint.class_names, "fp32", checkpoint.sha256)
    network = network_from_checkpoint(checkpoint)
    graph = graph_from_network(network, meta)
    pixels = calibration_pixels(pictures)
    quantised = quantise(graph, spec, pixels, checkpoint.sha256, say=say)
    plan = quantised.dense if how.target == "tflite" else quantised.sparse
    model = write_biases(quantised.model, spec, plan)
    student = FakeQuantised(model, spec, plan)
    float_ap = ptq_ap = None
    if group.is_first:
        float_ap = _measure(FromPixels(network), meta, images, class_map)
        ptq_ap = _measure(student, meta, images, class_map)
        say(f"AP on the validation images: float {show(float_ap)}, calibrated only {show(ptq_ap)}")

    def judge(module: nn.Module, epoch: int) -> Row:
        return {"AP": _measure(module, meta, images, class_map)}

    rows: list[Row] = []

    def report(history: list[Row], left_s: float) -> None:
        rows[:] = history
        row = history[-1]
        say(f"INT8 epoch {row['epoch']}: loss {row['loss']:.4f}, AP {show(row['AP'])}; {left_s / 60:.0f} min left")

    resume = how.fit.resume and (out / STATE).is_file()  # else it was killed before this began
    options = replace(
        how.fit,
        rate=how.fit.rate or RATE,
        resume=resume,
        settings={"int8": how.target, "checkpoint": checkpoint.sha256, **how.fit.settings},
    )
    teacher = FakeQuantised(quantised.model, spec, None).to(group.device)
    trained = fit(student, spec, pictures, options, group, out, judge, report, make_teacher_loss(teacher, how.teacher))
    if not group.is_first:
        return Int8TrainResult(None, None, None, None, [])
    assert isinstance(trained, FakeQuantised)
    qat_ap = rows[-1]["AP"]  # of the averaged weights, which are ``trained``
    if (qat_ap or 0.0) >= (ptq_ap or 0.0):
        written_network, final = "trained", quantise_trained(trained.trained_model(model), spec, quantised)
    else:
        written_network, final = "calibrated", quantised
        say(
            f"the training for INT8 lost AP, {show(qat_ap)} instead of {show(ptq_ap)}: the files hold the calibrated "
            "network"
        )
    unseen = FrameSets((), (), (), "labelled images", requested=0)  # the gate looks at labels only
    gate = Gate(EngineDetector(meta, ModuleEngine(FromPixels(network))), meta, unseen, Int8Options(labels=val), say)
    figures = {
        "float": float_ap,
        "calibrated": ptq_ap,
        "trained": qat_ap,
        "epochs": how.fit.epochs,
        "network": written_network,
    }
    written = meta.with_top_anchors(MOST_TOP_ANCHORS)  # as `edgedet export` writes them
    files = []
    for form in FORMS[how.target]:
        path = out / f"{name}_int8{form.suffix}"
        files.append(_write_and_judge(path, written, final, form, gate, figures, how.force))
        say(f"{path}: {Verdict(**files[-1]['gate']).line()}")
    if not any(file["kept"] for file in files):
        raise VerificationError(
            f"no INT8 file passed: AP {show(qat_ap)} after {how.fit.epochs} epochs, float {show(float_ap)}. Train "
            "longer (--int8-epochs), with more pictures, or keep the files by --force. The float checkpoint stays "
            "where it is."
        )
    return Int8TrainResult(float_ap, ptq_ap, qat_ap, written_network, files)


def calibration_pixels(pictures: Pictures) -> list[np.ndarray]:
    """Return some of the pictures as the device sees them, (1, H, W, 3) uint8, spread over all."""
    from edgedet.training.augment import NONE

    plain = replace(pictures, how=NONE)
    return [plain.make((0, at)).pixels[None] for at in thin_out(range(len(pictures)), CALIBRATION_PICTURES)]


def write_biases(model: onnx.ModelProto, spec: DetectorSpec, plan: DensePlan | SparsePlan) -> onnx.ModelProto:
    """Return the graph with the plan's corrected biases; a convolution without one gets one.

    What a dense plan's stem holds beside its bias, the mean's subtraction, is taken out again.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = read_initializers(model)
    stem = next(node.name for node in model.graph.node if node.op_type == "Conv")
    for node in result.graph.node:
        if node.name not in plan.convs:
            continue
        conv = plan.convs[node.name]
        bias = np.zeros(len(conv.weight)) if conv.bias is None else conv.bias.astype(np.float64)
        if node.name == stem and isinstance(plan, DensePlan):
            shift = choose_centre(spec) - 255.0 * np.asarray(spec.mean_rgb[::-1])
            bias = bias - (conv.weight * conv.scales[:, None, None, None].astype(np.float64)).sum((2, 3)) @ shift
        name = f"{node.name}.bias.trained"
        del node.input[2:]
        node.input.append(name)
        constants[name] = bias.astype(np.float32)
    used = {name for node in result.graph.node for name in node.input}
    del result.graph.initializer[:]
    result.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in constants.items() if name in used
    )
    return result


def quantise_trained(model: onnx.ModelProto, spec: DetectorSpec, before: Quantised) -> Quantised:
    """Return what the writers take: trained weights rounded, by the scales that they were trained with."""
    return Quantised(
        model,
        before.table,
        make_dense_plan(model, spec, before.table),
        make_sparse_plan(model, before.table, KEEP_FLOAT),
        before.mac_shares,
    )


def _measure(
    module: nn.Module, meta: ArtifactMeta, images: Sequence[LabelledImage], class_map: Sequence[int]
) -> float | None:
    return validate(ModuleEngine(module), meta, images, class_map)[0].figures["AP"]


def _write_and_judge(
    path: Path,
    meta: ArtifactMeta,
    quantised: Quantised,
    form: Form,
    gate: Gate,
    figures: dict[str, Any],
    force: bool,
) -> dict[str, Any]:
    """Write one file, judge it by its own engine as ``edgedet export`` does with labels, and keep it if it passed."""
    int8_meta = replace(meta, precision="int8")
    path.unlink(missing_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".int8-") as folder:
        temporary = Path(folder) / path.name
        form.write(quantised, int8_meta, temporary)
        verdict = gate.judge(temporary)
    kept = verdict.verdict == PASSED or force
    if kept:
        report = {"gate": verdict.to_dict(), "quantisation_aware_training": figures}
        with atomic_path(path) as temporary:
            form.write(quantised, replace(int8_meta, report=report), temporary)
    sha256 = sha256_of(path) if kept else None
    return {"path": str(path), "kept": kept, "sha256": sha256, "gate": verdict.to_dict()}
