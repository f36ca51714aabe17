"""Quantise a float graph by calibration frames. The steps are in modules of their own; their order is here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import onnx

from edgedet.calibration.graph.executor import Executor
from edgedet.calibration.graph.macs import count_conv_macs
from edgedet.calibration.placement.emit import make_sparse_graph
from edgedet.calibration.placement.plan import DensePlan, SparsePlan, make_dense_plan, make_sparse_plan
from edgedet.calibration.placement.table import CalibrationTable
from edgedet.calibration.ranges.choose import table_from_observed
from edgedet.calibration.ranges.observe import FrameTask, ObservedFrame, compare_halves, observe
from edgedet.calibration.ranges.refine import refine_ranges
from edgedet.calibration.recovery.reconstruct import reconstruct_weights
from edgedet.calibration.recovery.recover import correct_biases, equalise
from edgedet.errors import InputError
from edgedet.progress import Say, begin_step, say_nothing
from edgedet.specs import DetectorSpec

# Stem, the backbone's depthwise convolutions and squeeze-excite are a tenth of the work and lose most. In BiFPN and
# heads all convolutions are INT8: where a float depthwise convolution stands before an INT8 pointwise one, its output
# is rounded by a kernel of its own (docs/int8.md).
KEEP_FLOAT = ("stem", "backbone_depthwise", "se")
# Steps of a whole job (``progress.begin_step``), in their order; those with a bar have its name.
EQUALISING, OBSERVING, CHOOSING = "equalising depthwise channels", "observing", "choosing ranges"
RANKING, JUDGING, CORRECTING, ROUNDING = "ranking tensors", "judging ranges", "correcting biases", "rounding"
RECOVERY_FRAMES = 6  # run as one batch: about 2 GB for D0


@dataclass(frozen=True, eq=False)
class Quantised:
    """INT8 forms of one model, from one calibration table.

    model:      the float graph that the plans belong to (equalised, where that was asked for).
    table:      ranges of every tensor.
    dense:      for the TFLite writer.
    sparse:     for TensorRT.
    mac_shares: share of the multiply-accumulates that are INT8: "dense" and "sparse".
    """

    model: onnx.ModelProto
    table: CalibrationTable
    dense: DensePlan
    sparse: SparsePlan
    mac_shares: dict[str, float]

    def sparse_model(self) -> onnx.ModelProto:
        """Return the Q/DQ graph for TensorRT."""
        return make_sparse_graph(self.model, self.sparse)


def quantise(
    model: onnx.ModelProto,
    spec: DetectorSpec,
    pixels: Sequence[np.ndarray],
    model_sha256: str,
    recovery: str = "fast",
    table: CalibrationTable | None = None,
    keep_float: Collection[str] = KEEP_FLOAT,
    observer: str = "mixed",
    say: Say = say_nothing,
    observe_frames: Callable[[onnx.ModelProto, list[FrameTask]], Iterable[ObservedFrame]] | None = None,
) -> Quantised:
    """Quantise a fused float graph.

    pixels:   calibration frames, (1, H, W, 3) uint8 each.
    recovery: "none"; "fast": equalisation and bias correction; "full": also rounds weights layer by layer.
    table:    ranges of an earlier run for the same checkpoint, recovery and size, instead of new ones.
    keep_float: what the sparse form leaves float (``make_sparse_plan``).
    observer:   as for ``table_from_observed``.
    say:        called with a line as each step begins.
    observe_frames: runs the float graph on the frames elsewhere; None: here.
    Raises InputError where the table is another model's or the model computes no finite numbers.
    """
    if not pixels:
        raise InputError("calibration needs at least one frame.")
    batch = np.concatenate(list(pixels[:: max(1, len(pixels) // RECOVERY_FRAMES)][:RECOVERY_FRAMES]))
    if recovery != "none":
        begin_step(EQUALISING, say)
        model = equalise(model, batch)
    executor = Executor(model)
    if table is None:
        begin_step(OBSERVING, say, f"observing {len(pixels)} frames")
        observed, hashes = observe(
            executor,
            pixels,
            observe_frames=None if observe_frames is None else partial(observe_frames, model),
        )
        movement = compare_halves(observed)
        if movement is not None:
            say(
                f"ranges move by {100 * movement[0]:.0f} % (median) between the frames' two halves, at most by "
                f"{100 * movement[1]:.0f} % ({movement[2]})"
            )
        begin_step(CHOOSING, say)
        table = table_from_observed(executor, observed, hashes, model_sha256, observer)
        del observed  # a gigabyte
        if observer == "mixed":
            begin_step(RANKING, say, "refining the ranges of the worst tensors by the error at the outputs")
            plans = make_dense_plan(model, spec, table), make_sparse_plan(model, table, keep_float)
            table = refine_ranges(executor, table, *plans, pixels)
    elif table.model_sha256 != model_sha256:
        raise InputError("the calibration table belongs to another checkpoint: calibrate again without --table.")
    try:
        dense, sparse = make_dense_plan(model, spec, table), make_sparse_plan(model, table, keep_float)
    except KeyError as error:
        raise InputError(f"the calibration table lacks the tensor {error}: calibrate again without --table.") from None
    if recovery == "fast":
        begin_step(CORRECTING, say)
        dense = cast(DensePlan, correct_biases(executor, dense, batch))
        sparse = cast(SparsePlan, correct_biases(executor, sparse, batch))
    if recovery == "full":
        begin_step(ROUNDING, say, "rounding weights layer by layer, for each placement")
        dense = cast(DensePlan, reconstruct_weights(executor, dense, batch))
        sparse = cast(SparsePlan, reconstruct_weights(executor, sparse, batch))
    shares = {"dense": compute_int8_mac_share(model, dense), "sparse": compute_int8_mac_share(model, sparse)}
    return Quantised(model, table, dense, sparse, shares)


def compute_int8_mac_share(model: onnx.ModelProto, plan: DensePlan | SparsePlan) -> float:
    """Return the share of a graph's multiply-accumulates that are INT8."""
    macs = count_conv_macs(model)
    return sum(macs[conv] for conv in plan.convs) / sum(macs.values())
