"""ONNX files that give boxes: edgedet's own of ``--for onnx-nms`` and ``triton``, and those of two other makers.

Files of other makers say neither what pixels they want nor what their numbers mean. They are known by their inputs and
outputs, and what is taken for granted is said once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np

from ..anchors import anchors_for
from ..artifact import ArtifactMeta
from ..errors import ArtifactError, ClosedError
from ..files import sha256_of
from ..specs import MIN_SIDE, spec_for
from ..types import RawOutputs
from .base import CLOSED, Engine, check_pixels
from .finished import OUTPUTS, RULES, raw_from_boxes, say_assumed

FOUR_OUTPUTS = ("num", "boxes", "scores", "classes")  # of edgedet's own files
_BASE = "tf_efficientdet_d0"  # the variant whose normalisation, and other facts that the file does not give, are used
_CLASSES = 90  # COCO's slots; the file does not give the number
_FIRST_CLASS = 1  # both makers count from the background, 0


@dataclass(frozen=True)
class Interface:
    """How a file of another maker takes pixels and gives boxes.

    planes:  (1, 3, H, W) float32, less mean, by deviation; otherwise (1, H, W, 3) uint8. RGB both.
    width:   of a row of the one output (1, n, width); columns: where x1, y1, x2, y2, score and class stand in it.
    assumed: what is taken for granted, for people.
    """

    maker: str
    family: str
    planes: bool
    width: int
    columns: Tuple[int, ...]
    assumed: str


INTERFACES = (
    # effdet/anchors.py generate_detections; effdet/bench.py DetBenchPredict
    Interface(
        "effdet's DetBenchPredict", "effdet", True, 6, (0, 1, 2, 3, 4, 5), "RGB by ImageNet's mean and deviation"
    ),
    # automl efficientdet/inference.py, converted by tf2onnx: image_id, ymin, xmin, ymax, xmax, score, class
    Interface("automl's inference graph", "automl", False, 7, (2, 1, 4, 3, 5, 6), "RGB bytes"),
)


def open_foreign(path: Path, session: Any) -> Tuple[ArtifactMeta, Engine]:
    """Return an engine for a session of another maker's file; raises ArtifactError for an unknown interface."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    interface = _recognise(inputs, outputs)
    if interface is None:
        shapes = [f"{value.name} {value.type} {value.shape}" for value in (*inputs, *outputs)]
        raise ArtifactError(
            f"{path} holds no edgedet metadata, and its inputs and outputs ({', '.join(shapes)}) are those of neither "
            f"{' nor '.join(known.maker for known in INTERFACES)} with a fixed input size: "
            "export the checkpoint with edgedet."
        )
    shape = inputs[0].shape
    input_hw = (shape[2], shape[3]) if interface.planes else (shape[1], shape[2])
    if min(input_hw) < MIN_SIDE:
        raise ArtifactError(
            f"{path} takes pictures of {input_hw[0]}x{input_hw[1]}, but edgedet runs models from {MIN_SIDE} pixels a "
            "side on."
        )
    spec = replace(spec_for(_BASE), name=path.stem, input_hw=input_hw, num_classes=_CLASSES, family=interface.family)
    meta = ArtifactMeta(
        spec,
        tuple(f"class_{index}" for index in range(_CLASSES)),
        "as found",
        sha256_of(path),
        "float32 NCHW RGB" if interface.planes else "uint8 NHWC RGB",
        OUTPUTS,
        RULES,
    )
    say_assumed(path, f"{interface.maker}: {interface.assumed}, and classes by COCO's numbers")
    return meta, ForeignEngine(session, meta, interface)


def _recognise(inputs: List[Any], outputs: List[Any]) -> Optional[Interface]:
    """Return the interface that these inputs and outputs have, None for none."""
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4 or len(outputs[0].shape) != 3:
        return None
    shape = inputs[0].shape
    for known in INTERFACES:
        kind, channels, sides = (
            ("tensor(float)", shape[1], shape[2:]) if known.planes else ("tensor(uint8)", shape[3], shape[1:3])
        )
        sized = all(isinstance(side, int) and side > 0 for side in sides)
        single = not isinstance(shape[0], int) or shape[0] == 1
        if inputs[0].type == kind and channels == 3 and sized and single and outputs[0].shape[2] == known.width:
            return known
    return None


class ForeignEngine(Engine):
    """One session of another maker's file, whose rows of numbers become raw outputs."""

    def __init__(self, session: Any, meta: ArtifactMeta, interface: Interface) -> None:
        self._session, self._interface = session, interface
        self._input = session.get_inputs()[0].name
        self._input_shape = (1, *meta.spec.input_hw, 3)
        self._anchors_yxyx = anchors_for(meta.spec)
        self._mean = (255 * np.array(meta.spec.mean_rgb, np.float32)).reshape(1, 3, 1, 1)
        self._std = (255 * np.array(meta.spec.std_rgb, np.float32)).reshape(1, 3, 1, 1)

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run one picture."""
        if self._session is None:
            raise ClosedError(CLOSED)
        check_pixels(pixels, self._input_shape)
        image = np.ascontiguousarray(pixels[..., ::-1])
        if self._interface.planes:
            image = (image.transpose(0, 3, 1, 2) - self._mean) / self._std
        (rows,) = self._session.run(None, {self._input: image})
        rows = rows[0][:, self._interface.columns]
        rows = rows[rows[:, 4] > 0]  # the rest is padding
        class_ids = rows[:, 5].astype(np.int64) - _FIRST_CLASS
        return raw_from_boxes(rows[:, :4], rows[:, 4], class_ids, self._anchors_yxyx, _CLASSES)

    def close(self) -> None:
        """Free the session."""
        self._session = None


class FourOutputsEngine(Engine):
    """One session of a file that edgedet wrote for other programs: num, boxes, scores and classes."""

    def __init__(self, session: Any, meta: ArtifactMeta) -> None:
        """Check the session's outputs; raises ArtifactError where they are others."""
        names = [value.name for value in session.get_outputs()]
        if sorted(names) != sorted(FOUR_OUTPUTS):
            raise ArtifactError(f"its outputs are {names}, its metadata says {list(FOUR_OUTPUTS)}: export it again.")
        self._session = session
        self.max_batch = meta.max_batch
        self._input_shape = (1, *meta.spec.input_hw, 3)
        self._anchors_yxyx = anchors_for(meta.spec)
        self._num_classes = meta.spec.num_classes

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run one picture."""
        check_pixels(pixels, self._input_shape)
        return self.infer_batch(pixels)[0]

    def infer_batch(self, pixels: np.ndarray) -> List[RawOutputs]:
        """Run 1 to ``max_batch`` pictures."""
        if self._session is None:
            raise ClosedError(CLOSED)
        check_pixels(pixels, self._input_shape, self.max_batch)
        outputs = self._session.run(list(FOUR_OUTPUTS), {"pixels": pixels})
        return [self._raw(*(values[at] for values in outputs)) for at in range(len(pixels))]

    def _raw(self, number: np.ndarray, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> RawOutputs:
        n = int(number[0])
        class_ids = classes[:n].astype(np.int64)
        return raw_from_boxes(boxes[:n], scores[:n], class_ids, self._anchors_yxyx, self._num_classes)

    def close(self) -> None:
        """Free the session."""
        self._session = None
