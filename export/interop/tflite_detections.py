"""Append TFLite_Detection_PostProcess to a TFLite file that edgedet wrote, and let it take uint8 RGB.

Float and INT8 files take the same road: the network in them stays as it was verified. The operator runs as its
"regular" NMS: hard NMS among the boxes of a class, as ``edgedet.postprocess`` does. Its fast one suppresses boxes of
other classes, too (tensorflow/lite/kernels/detection_postprocess.cc).

The operator decodes every anchor and looks through all of them once for each class. Where there are several classes, it
is therefore given the best anchors of each pyramid level only: with 90 classes it takes 2.5 ms instead of 20.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from edgedet.anchors import anchors_for
from edgedet.artifact import ArtifactMeta
from edgedet.export.interop.target import LOWEST_SCORE, check_rules
from edgedet.export.tflite.builder import Scales, TfliteBuilder
from edgedet.postprocess import MAX_BOXES

OPERATOR = "TFLite_Detection_PostProcess"
FEW_CLASSES = 2  # up to which looking through all anchors takes less time than choosing some
_INT32 = schema.TensorType.INT32
BEST_OF_LEVEL = 1000  # anchors of a pyramid level; torchvision's RetinaNet takes as many (topk_candidates)
BEST_OF_ALL = 2000  # anchors of all levels: where all pass, the operator takes 60 ms, and 110 for those of every level


def with_detections(
    flatbuffer: bytes, meta: ArtifactMeta, for_coral: bool = False
) -> tuple[TfliteBuilder, int, tuple[int, ...]]:
    """Return a builder with uint8 RGB input and the operator behind the raw outputs, its input and its four outputs.

    flatbuffer: with the outputs that ``meta`` names, per level class logits, then per level box codes.
    for_coral:  no float number may come before the network, as Coral's compiler leaves to the CPU all that follows.
    Outputs, float32: boxes (1, n, 4) y1 x1 y2 x2 as shares of the input, classes (1, n), scores (1, n), number (1,).
    Raises UnsupportedError for rules of post-processing that the operator cannot follow.
    """
    check_rules(meta.nms)
    builder, (image,), raw = TfliteBuilder.reopened(flatbuffer)
    pixels = _take_rgb(builder, image, meta, for_coral)
    return builder, pixels, append_operator(builder, raw, meta)


def append_operator(builder: TfliteBuilder, raw: list[int], meta: ArtifactMeta) -> tuple[int, ...]:
    """Append the operator behind raw outputs, per level class logits, then per level box codes; return its outputs."""
    codes, scores, anchors = _candidates(builder, raw, meta)
    shapes = {
        "detection_boxes": (1, MAX_BOXES, 4),
        "detection_classes": (1, MAX_BOXES),
        "detection_scores": (1, MAX_BOXES),
        "num_detections": (1,),
    }
    outputs = tuple(builder.tensor(name, shape, np.float32) for name, shape in shapes.items())
    builder.custom_op(OPERATOR, [codes, scores, anchors], outputs, _options(meta))
    return outputs


def _options(meta: ArtifactMeta) -> bytes:
    """Return the operator's options as a flexbuffer."""
    options = flexbuffers.Builder()
    with options.Map():
        for name, number in (
            ("max_detections", MAX_BOXES),
            ("max_classes_per_detection", 1),
            ("detections_per_class", MAX_BOXES),
            ("num_classes", meta.spec.num_classes),
        ):
            options.Int(name, number)
        options.Bool("use_regular_nms", True)
        for name, share in (("nms_score_threshold", LOWEST_SCORE), ("nms_iou_threshold", meta.nms.max_iou)):
            options.Float(name, share)
        for name in ("y_scale", "x_scale", "h_scale", "w_scale"):
            options.Float(name, 1.0)
    return bytes(options.Finish())


def _centred_anchors(meta: ArtifactMeta) -> np.ndarray:
    """Return (A, 4) float32 yc xc h w as shares of the input."""
    anchors = anchors_for(meta.spec).astype(np.float64)
    h, w = meta.spec.input_hw
    lows, highs = anchors[:, :2], anchors[:, 2:]
    return (np.concatenate([(lows + highs) / 2, highs - lows], axis=1) / [h, w, h, w]).astype(np.float32)


def _candidates(builder: TfliteBuilder, raw: list[int], meta: ArtifactMeta) -> tuple[int, int, int]:
    """Return box codes (1, n, 4), scores (1, n, C) and anchors (n, 4), float32, that the operator chooses among."""
    levels, classes = len(raw) // 2, meta.spec.num_classes
    all_anchors, first = _centred_anchors(meta), 0
    parts: dict[str, list[int]] = {"logits": [], "codes": [], "anchors": []}
    for level in range(levels):
        logits = _rows(builder, raw[level], classes, f"logits.{level}")
        codes = _rows(builder, raw[levels + level], 4, f"codes.{level}")
        count = int(builder.tensors[logits].shape[0])
        anchors = builder.constant(f"anchors.{level}", all_anchors[first : first + count])
        first += count
        if classes > FEW_CLASSES and count > BEST_OF_LEVEL:
            best = _best_rows(builder, logits, BEST_OF_LEVEL, f"best.{level}")
            logits, codes, anchors = (_gathered(builder, tensor, best) for tensor in (logits, codes, anchors))
        for name, tensor in (("logits", logits), ("codes", codes), ("anchors", anchors)):
            parts[name].append(_real(builder, tensor))
    logits, codes, anchors = (_joined(builder, tensors, name) for name, tensors in parts.items())
    if classes > FEW_CLASSES and int(builder.tensors[logits].shape[0]) > BEST_OF_ALL:
        best = _best_rows(builder, logits, BEST_OF_ALL, "best")
        logits, codes, anchors = (_gathered(builder, tensor, best) for tensor in (logits, codes, anchors))
    scores = builder.tensor("scores.all", builder.tensors[logits].shape, np.float32)
    builder.op("LOGISTIC", [logits], [scores])
    if meta.nms.candidates == "anchors" and classes > 1:
        scores = _best_class_only(builder, logits, scores)
    return _reshaped(builder, codes, (1, -1, 4)), _reshaped(builder, scores, (1, -1, classes)), anchors


def _best_class_only(builder: TfliteBuilder, logits: int, scores: int) -> int:
    """Return scores (n, C) that are 0 but for each row's best class, of equal ones the first."""
    rows, classes = builder.tensors[logits].shape
    best = builder.tensor("best_class", (rows,), np.int32)
    builder.op("ARG_MAX", [logits, builder.constant("last_axis", np.array(1, np.int32))], [best], outputType=_INT32)
    is_best = builder.tensor("is_best", (rows, classes), np.float32)
    depth = builder.constant("num_classes", np.array(classes, np.int32))
    one, zero = (builder.constant(f"is.{value}", np.array(value, np.float32)) for value in (1, 0))
    builder.op("ONE_HOT", [best, depth, one, zero], [is_best], axis=-1)
    chosen = builder.tensor("scores.best", (rows, classes), np.float32)
    builder.op("MUL", [scores, is_best], [chosen])
    return chosen


def _rows(builder: TfliteBuilder, tensor: int, width: int, name: str) -> int:
    """Return a prediction map (1, h, w, anchors x width) as (h x w x anchors, width)."""
    return _reshaped(builder, tensor, (-1, width), name)


def _reshaped(builder: TfliteBuilder, tensor: int, shape: tuple[int, ...], name: str = "") -> int:
    """Return a tensor of the same numbers in another shape, in which -1 stands for what is left."""
    size = int(np.prod(builder.tensors[tensor].shape))
    known = int(np.prod([side for side in shape if side != -1]))
    shape = tuple(size // known if side == -1 else side for side in shape)
    name = name or f"{_name(builder, tensor)}.reshaped"
    reshaped = _like(builder, tensor, name, shape)
    new_shape = builder.constant(f"{name}.shape", np.array(shape, np.int32))
    builder.op("RESHAPE", [tensor, new_shape], [reshaped], newShape=list(shape))
    return reshaped


def _best_rows(builder: TfliteBuilder, logits: int, most: int, name: str) -> int:
    """Return the numbers of the ``most`` rows of (n, C) whose largest logit is the highest, int32."""
    count = int(builder.tensors[logits].shape[0])
    largest = _like(builder, logits, f"{name}.largest", (count,))
    builder.op("REDUCE_MAX", [logits, builder.constant("classes_axis", np.array([1], np.int32))], [largest])
    values = _like(builder, logits, f"{name}.values", (most,))
    rows = builder.tensor(f"{name}.rows", (most,), np.int32)
    builder.op("TOPK_V2", [largest, builder.constant(f"{name}.most", np.array(most, np.int32))], [values, rows])
    return rows


def _gathered(builder: TfliteBuilder, tensor: int, rows: int) -> int:
    """Return the rows of (n, width) with these numbers."""
    shape = (int(builder.tensors[rows].shape[0]), int(builder.tensors[tensor].shape[1]))
    gathered = _like(builder, tensor, f"{_name(builder, tensor)}.best", shape)
    builder.op("GATHER", [tensor, rows], [gathered], axis=0)
    return gathered


def _real(builder: TfliteBuilder, tensor: int) -> int:
    """Return an int8 tensor as float32, a float32 one as it is."""
    if builder.tensors[tensor].type != schema.TensorType.INT8:
        return tensor
    real = builder.tensor(f"{_name(builder, tensor)}.real", builder.tensors[tensor].shape, np.float32)
    builder.op("DEQUANTIZE", [tensor], [real])
    return real


def _joined(builder: TfliteBuilder, tensors: list[int], name: str) -> int:
    """Join float tensors (n, width) of all levels."""
    total = sum(int(builder.tensors[tensor].shape[0]) for tensor in tensors)
    joined = builder.tensor(name, (total, int(builder.tensors[tensors[0]].shape[1])), np.float32)
    builder.op("CONCATENATION", tensors, [joined], axis=0)
    return joined


def _name(builder: TfliteBuilder, tensor: int) -> str:
    name = builder.tensors[tensor].name
    return name.decode() if isinstance(name, bytes) else str(name)


def _like(builder: TfliteBuilder, tensor: int, name: str, shape: tuple[int, ...]) -> int:
    """Add a tensor of another one's type and scale."""
    other = builder.tensors[tensor]
    if other.type == schema.TensorType.FLOAT32:
        return builder.tensor(name, shape, np.float32)
    scales = Scales(np.array(other.quantization.scale, np.float32), int(other.quantization.zeroPoint[0]))
    return builder.tensor(name, shape, np.int8, scales)


def _take_rgb(builder: TfliteBuilder, image: int, meta: ArtifactMeta, for_coral: bool) -> int:
    """Put a uint8 RGB tensor before the int8 BGR input; return it.

    The order of colours goes into the mean and the first convolution's weights. A convolution that reads two columns as
    six channels has two groups of three. The two inputs stand for the same numbers, a byte less its zero point, so that
    QUANTIZE subtracts 128 and rounds nothing. By way of float numbers it takes 0.1 ms for 512 x 512 pixels instead of
    0.6: LiteRT has fast code for both steps (XNNPACK), but not for one from uint8 to int8.
    """
    shape = (1, *meta.spec.input_hw, 3)
    signed_zero = int(builder.tensors[image].quantization.zeroPoint[0])
    pixels = builder.tensor("image", shape, np.uint8, Scales(np.array([1.0], np.float32), signed_zero + 128))
    first = builder.operators[0]
    if builder.tensors[int(first.outputs[0])].type == schema.TensorType.FLOAT32:  # DEQUANTIZE, SUB mean: of bytes
        first.inputs = [pixels]
        builder.tensors[image].shape = [1]  # no operator reads it any more
        _swap_colours(builder, int(builder.operators[1].inputs[1]))
    else:
        network, builder.operators = builder.operators, []
        source = pixels
        if not for_coral:
            source = builder.tensor("image.real", shape, np.float32)
            builder.op("DEQUANTIZE", [pixels], [source])
        builder.op("QUANTIZE", [source], [image])
        builder.operators += network
    stem = next(operator for operator in builder.operators if _is_conv(operator))
    _swap_colours(builder, int(stem.inputs[1]))
    return pixels


def _is_conv(operator: Any) -> bool:
    return bool(operator.builtinOptionsType == schema.BuiltinOptions.Conv2DOptions)


def _swap_colours(builder: TfliteBuilder, tensor: int) -> None:
    """Reverse each three neighbours along the last axis of a constant, which gets a buffer of its own."""
    constant = builder.tensors[tensor]
    dtype = np.int8 if constant.type == schema.TensorType.INT8 else np.float32
    values = np.frombuffer(builder.buffers[constant.buffer], dtype).reshape(-1, 3)
    constant.buffer = len(builder.buffers)
    builder.buffers.append(np.ascontiguousarray(values[:, ::-1]).tobytes())
