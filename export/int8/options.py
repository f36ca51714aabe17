"""The options of an INT8 export."""

from __future__ import annotations

from dataclasses import dataclass

from edgedet.calibration.placement.table import CalibrationTable
from edgedet.calibration.quantise import KEEP_FLOAT
from edgedet.export.int8.revert import MOST
from edgedet.judge.labels import Dataset
from edgedet.postprocess import DEFAULT_SCORE


@dataclass(frozen=True)
class Int8Options:
    """How to quantise and how to judge the files, as the command line says.

    calib:      source of frames; None: the demo's clip for the demo, else scikit-image's photographs.
    frames:     number of frames.
    recovery:   "none", "fast" or "full" (``quantise``).
    observer:   how ranges are chosen, of ``observe.OBSERVERS``.
    keep_float: layers that stay float in TensorRT's files: classes of ``plan.OP_CLASSES``, or single layers by name.
    table:      an earlier calibration table, to use instead of new ranges.
    labels:     labelled images for the gate; None: the float model's detections are the reference.
    score:      the user's score threshold.
    max_drop:   per cent of float AP that may be lost, with labels.
    force:      keep files whose verdict is UNSURE.
    revert:     at most so many layers go back to float where the file fails on the select frames.
    keep_rejected: keep files that did not pass, as NAME.rejected.
    pictures:   draw both models' boxes on frames that a file was judged on, beside each file.
    """

    calib: str | None = None
    frames: int = 128
    seed: int = 0
    recovery: str = "fast"
    observer: str = "mixed"
    keep_float: tuple[str, ...] = KEEP_FLOAT
    table: CalibrationTable | None = None
    labels: Dataset | None = None
    score: float = DEFAULT_SCORE
    max_drop: float = 1.0
    force: bool = False
    revert: int = MOST
    keep_rejected: bool = False
    pictures: bool = False
    threads: int = 1
    is_demo: bool = False
