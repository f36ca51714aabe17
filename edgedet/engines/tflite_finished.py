"""TFLite files of other makers that end in TFLite_Detection_PostProcess, such as efficientdet_lite0.tflite.

These files decode boxes and apply NMS themselves. edgedet's own of ``--for tflite-app`` are of that kind, and
say what else a reader must know; for other makers' files it is worked out from the file.
"""

from __future__ import annotations

import math
import os
import zipfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np

from ..anchors import anchors_for
from ..artifact import ArtifactMeta
from ..child_process import run_alone
from ..errors import ArtifactError, ClosedError, DeviceError
from ..files import sha256_of
from ..specs import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB, MIN_SIDE, spec_for
from ..types import RawOutputs
from .base import CLOSED, Engine, check_pixels
from .finished import OUTPUTS, RULES, raw_from_boxes, say_assumed

POSTPROCESS = (
    "TFLite_Detection_PostProcess"  # its outputs in order: boxes y1 x1 y2 x2 in [0, 1], classes, scores, count
)
BASE = "tf_efficientdet_lite0"  # the variant whose anchors, and other facts that the file does not give, are used
BACKGROUND = 1  # files of SSD models have scores of one class more than there are names
# normalisations (mean, std, of pixels in [0, 1]) that a converter's scale and zero point may show
_NORMALISATIONS = (
    ((127 / 255,) * 3, (128 / 255,) * 3),  # EfficientDet-Lite; automl hparams_config.py lite_common_param
    ((0.5,) * 3, (0.5,) * 3),
    (IMAGENET_MEAN_RGB, IMAGENET_STD_RGB),  # automl's D0-D7
)
_PLAIN_SCALES = (0.0, 1 / 255, 1.0)  # no scale, or one of raw pixels: the graph normalises
_SCALE_TOLERANCE = 0.02  # calibration pictures do not quite fill the range of a normalised pixel
Triple = Tuple[float, float, float]


def is_finished(path: Path) -> bool:
    """Return whether the file contains the operator's name."""
    return os.access(path, os.R_OK) and POSTPROCESS.encode() in path.read_bytes()


def probe(path: Path, library: str) -> None:
    """Run the file once in a process of its own; raises ArtifactError where that fails or ends the process.

    Such files carry no checksum, and a damaged one can end the process that runs it.
    """
    try:
        run_alone(_run_once, str(path), library)
    except DeviceError as error:
        raise ArtifactError(f"{path} is damaged or needs another runtime: {error}. Download it again.") from None


def _run_once(path: str, library: str) -> None:
    """Run a file once on an input that is not set. It runs in a process of its own, which the file may end."""
    interpreter = import_module(library).Interpreter(model_path=path)
    interpreter.allocate_tensors()
    interpreter.invoke()
    print("done")


def finished_model(path: Path, interpreter: Any) -> Tuple[ArtifactMeta, FinishedEngine]:
    """Return an engine for an interpreter that is ready to run; raises ArtifactError for an unknown interface."""
    inputs = interpreter.get_input_details()
    shape = tuple(inputs[0]["shape"].tolist()) if len(inputs) == 1 else ()
    dtype = inputs[0]["dtype"]
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or dtype not in (np.uint8, np.float32):
        raise ArtifactError(
            f"{path} takes {dtype.__name__} {shape}, but edgedet knows only files that take uint8 or float32 (1, H, W, "
            "3) RGB."
        )
    if min(shape[1:3]) < MIN_SIDE:
        raise ArtifactError(
            f"{path} takes pictures of {shape[1]}x{shape[2]}, but edgedet runs models from {MIN_SIDE} pixels a side on."
        )
    operator = _find_operator(path, interpreter)
    shapes = {item["index"]: tuple(item["shape"].tolist()) for item in interpreter.get_tensor_details()}
    scores_shape = shapes.get(int(operator["inputs"][1]), ())
    if not scores_shape or scores_shape[-1] < 1:
        raise ArtifactError(
            f"{path}: the scores before {POSTPROCESS} are {scores_shape}, but edgedet knows only (1, anchors, classes)."
        )
    names = _choose_names(_read_labels(path), int(scores_shape[-1]))
    levels_rgb: Optional[np.ndarray]
    if dtype is np.float32:
        name, mean_rgb, std_rgb = _float_normalisation(interpreter)
        levels_rgb = _normalised_levels(mean_rgb, std_rgb).astype(np.float32)
        say_assumed(path, f"automl's float export: RGB by {name}")
    else:
        try:
            levels_rgb, mean_rgb, std_rgb = _input_levels(*inputs[0]["quantization"])
        except ArtifactError as error:
            raise ArtifactError(f"{path} {error}") from None
    red, green, blue = (round(255 * value) for value in mean_rgb)  # automl pads with 0 after normalising
    spec = replace(
        spec_for(BASE),
        name=path.stem,
        input_hw=(int(shape[1]), int(shape[2])),
        num_classes=len(names),
        mean_rgb=mean_rgb,
        std_rgb=std_rgb,
        fill_rgb=(red, green, blue),
        family="automl",
    )
    meta = ArtifactMeta(
        spec,
        names,
        "as found",
        sha256_of(path),
        f"{dtype.__name__} NHWC RGB",
        OUTPUTS,
        RULES,
    )
    return meta, FinishedEngine(interpreter, meta, [int(index) for index in operator["outputs"]], levels_rgb)


def own_engine(path: Path, interpreter: Any, meta: ArtifactMeta) -> FinishedEngine:
    """Return an engine for a file of ``--for tflite-app``; raises ArtifactError where its metadata is wrong."""
    shape = tuple(interpreter.get_input_details()[0]["shape"].tolist())
    if shape != (1, *meta.spec.input_hw, 3):
        raise ArtifactError(f"{path} takes {shape}, its metadata says {meta.spec.input_hw}: export it again.")
    outputs = _find_operator(path, interpreter)["outputs"]
    return FinishedEngine(interpreter, meta, [int(index) for index in outputs], None)


def _find_operator(path: Path, interpreter: Any) -> Any:
    operators = [item for item in interpreter._get_ops_details() if item["op_name"] == POSTPROCESS]
    if len(operators) != 1 or len(operators[0]["outputs"]) != 4:
        raise ArtifactError(
            f"{path} does not end in one {POSTPROCESS} with four outputs: export the model with edgedet."
        )
    return operators[0]


def _float_normalisation(interpreter: Any) -> Tuple[str, Triple, Triple]:
    """Return the name, mean and std of what a float input wants, which the file does not say.

    automl normalises D0 to D7x by ImageNet's numbers and Lite0 to Lite4 by others (hparams_config.py). Their
    activations tell them apart: swish has a sigmoid, ReLU6 has none, and the scores have one.
    """
    sigmoids = sum(item["op_name"] == "LOGISTIC" for item in interpreter._get_ops_details())
    if sigmoids > 1:
        return "ImageNet's mean and deviation", IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
    return "mean 127 and deviation 128, as it has no swish", *_NORMALISATIONS[0]


def _normalised_levels(mean_rgb: Triple, std_rgb: Triple) -> np.ndarray:
    """Return (256, 3) float64: what each byte becomes in each channel."""
    return np.asarray((np.arange(256)[:, None] / 255 - np.array(mean_rgb)) / np.array(std_rgb))


def _input_levels(scale: float, zero_point: int) -> Tuple[Optional[np.ndarray], Triple, Triple]:
    """Return the integer of each pixel value, (256, 3) uint8 or None for the value itself; then mean and std.

    real = scale x (integer - zero point), and real = (pixel - mean) / std with pixels in [0, 1]. The normalisation is
    the one whose whole range fits scale and zero point. Raises ArtifactError where none fits.
    """
    lite_mean, lite_std = _NORMALISATIONS[0]
    plain = zero_point == 0 and any(math.isclose(scale, value, rel_tol=1e-3) for value in _PLAIN_SCALES)
    if plain or scale == 1.0:  # the latter: a byte less a mean, as edgedet's --for tflite-app wrote it without metadata
        return None, lite_mean, lite_std
    for mean_rgb, std_rgb in _NORMALISATIONS:
        lows = [-mean / std for mean, std in zip(mean_rgb, std_rgb)]
        highs = [(1 - mean) / std for mean, std in zip(mean_rgb, std_rgb)]
        step = (max(highs) - min(lows)) / 255
        if abs(scale / step - 1) > _SCALE_TOLERANCE or abs(zero_point + min(lows) / step) > 255 * _SCALE_TOLERANCE:
            continue
        levels = np.clip(np.rint(_normalised_levels(mean_rgb, std_rgb) / scale) + zero_point, 0, 255).astype(np.uint8)
        same = (levels == np.arange(256)[:, None]).all()
        return (None if same else levels), mean_rgb, std_rgb
    raise ArtifactError(
        f"takes pixels by scale {scale:.5g} and zero point {zero_point}, which fits no normalisation of EfficientDets: "
        "export the model with edgedet instead."
    )


def _choose_names(labels: List[str], classes: int) -> Tuple[str, ...]:
    """Return a name for each class: the file's labels where there is one for each class, or for all but background."""
    if labels and len(labels) in (classes, classes - BACKGROUND):
        return tuple(labels)
    return tuple((labels + [f"class_{index}" for index in range(len(labels), classes)])[:classes])


def _read_labels(path: Path) -> List[str]:
    """Return the lines of the label file that TensorFlow Lite packs behind the flatbuffer, if there is one."""
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        texts = [name for name in archive.namelist() if name.endswith(".txt")]
        return archive.read(texts[0]).decode("utf-8").splitlines() if texts else []


class FinishedEngine(Engine):
    """One interpreter whose boxes become raw outputs: the n-th anchor holds the n-th box."""

    def __init__(
        self, interpreter: Any, meta: ArtifactMeta, outputs: List[int], levels_rgb: Optional[np.ndarray]
    ) -> None:
        """``outputs``: tensor numbers of boxes, classes, scores and count; ``levels_rgb`` (256, 3) of the input's type
        holds what each byte becomes, None where it stays."""
        self._levels_rgb = levels_rgb
        self._interpreter, self._outputs = interpreter, outputs
        self._input_index: int = interpreter.get_input_details()[0]["index"]
        self._input_shape = (1, *meta.spec.input_hw, 3)
        self._anchors_yxyx = anchors_for(meta.spec)
        self._num_classes = meta.spec.num_classes

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run one picture."""
        if self._interpreter is None:
            raise ClosedError(CLOSED)
        check_pixels(pixels, self._input_shape)
        rgb = pixels[..., ::-1]
        if self._levels_rgb is not None:
            rgb = np.stack([self._levels_rgb[rgb[..., c], c] for c in range(3)], axis=-1)
        self._interpreter.tensor(self._input_index)()[...] = rgb
        self._interpreter.invoke()
        boxes, classes, scores, count = (self._interpreter.get_tensor(index) for index in self._outputs)
        num_boxes = int(count.reshape(-1)[0])
        class_ids = classes.reshape(-1)[:num_boxes].astype(np.int64)
        h, w = self._input_shape[1:3]
        boxes_xyxy = boxes.reshape(-1, 4)[:num_boxes][:, [1, 0, 3, 2]] * np.array([w, h, w, h], np.float32)
        kept_scores = scores.reshape(-1)[:num_boxes]
        return raw_from_boxes(boxes_xyxy, kept_scores, class_ids, self._anchors_yxyx, self._num_classes)

    def close(self) -> None:
        """Free the interpreter."""
        self._interpreter = None
