"""Append TFLite_Detection_PostProcess to a TFLite file that edgedet wrote, and let it take uint8 RGB.

Float and INT8 files take the same road: the network in them stays as it was verified. The operator runs as its
"regular" NMS: hard NMS among the boxes of a class, as ``edgedet.postprocess`` does. Its fast one suppresses boxes of
other classes, too (tensorflow/lite/kernels/detection_postprocess.cc).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from edgedet.anchors import anchors_for
from edgedet.artifact import ArtifactMeta
from edgedet.errors import UnsupportedError
from edgedet.export.interop.onnx_detections import LOWEST_SCORE
from edgedet.export.tflite.builder import Scales, TfliteBuilder
from edgedet.postprocess import MAX_BOXES, NMS_IOU

OPERATOR = "TFLite_Detection_PostProcess"


def with_detections(flatbuffer: bytes, meta: ArtifactMeta) -> tuple[TfliteBuilder, int, tuple[int, ...]]:
    """Return a builder with uint8 RGB input and the operator behind the raw outputs, its input and its four outputs.

    flatbuffer: with the outputs that ``meta`` names, per level class logits, then per level box codes.
    Outputs, float32: boxes (1, n, 4) y1 x1 y2 x2 as shares of the input, classes (1, n), scores (1, n), number (1,).
    Raises UnsupportedError for rules of post-processing that the operator cannot follow.
    """
    if meta.nms.method != "hard" or meta.nms.candidates != "pairs":
        raise UnsupportedError(
            f"{OPERATOR} knows no NMS that is {meta.nms.words}: leave --original-nms away for this target."
        )
    builder, (image,), raw = TfliteBuilder.reopened(flatbuffer)
    pixels = _take_rgb(builder, image, meta)
    levels = len(raw) // 2
    logits = _joined(builder, raw[:levels], meta.spec.num_classes, "logits")
    codes = _joined(builder, raw[levels:], 4, "codes")
    count = sum(h * w for h, w in meta.spec.level_sizes()) * meta.spec.anchors_per_cell
    scores = builder.tensor("scores.all", (1, count, meta.spec.num_classes), np.float32)
    builder.op("LOGISTIC", [logits], [scores])
    anchors = builder.constant("anchors", _centred_anchors(meta))
    shapes = {
        "detection_boxes": (1, MAX_BOXES, 4),
        "detection_classes": (1, MAX_BOXES),
        "detection_scores": (1, MAX_BOXES),
        "num_detections": (1,),
    }
    outputs = tuple(builder.tensor(name, shape, np.float32) for name, shape in shapes.items())
    builder.custom_op(OPERATOR, [codes, scores, anchors], outputs, _options(meta))
    return builder, pixels, outputs


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
        for name, share in (("nms_score_threshold", LOWEST_SCORE), ("nms_iou_threshold", NMS_IOU)):
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


def _joined(builder: TfliteBuilder, levels: list[int], width: int, name: str) -> int:
    """Join prediction maps (1, h, w, anchors x width) to one float tensor (1, A, width)."""
    parts: list[int] = []
    for tensor in levels:
        shape = (1, int(np.prod(builder.tensors[tensor].shape)) // width, width)
        flat = _like(builder, tensor, f"{name}.{len(parts)}", shape)
        wanted = builder.constant(f"{name}.{len(parts)}.shape", np.array(shape, np.int32))
        builder.op("RESHAPE", [tensor, wanted], [flat], newShape=list(shape))
        if builder.tensors[flat].type == schema.TensorType.INT8:
            real = builder.tensor(f"{name}.{len(parts)}.real", shape, np.float32)
            builder.op("DEQUANTIZE", [flat], [real])
            flat = real
        parts.append(flat)
    total = sum(int(builder.tensors[part].shape[1]) for part in parts)
    joined = builder.tensor(name, (1, total, width), np.float32)
    builder.op("CONCATENATION", parts, [joined], axis=1)
    return joined


def _like(builder: TfliteBuilder, tensor: int, name: str, shape: tuple[int, ...]) -> int:
    """Add a tensor of another one's type and scale."""
    other = builder.tensors[tensor]
    if other.type == schema.TensorType.FLOAT32:
        return builder.tensor(name, shape, np.float32)
    return builder.tensor(
        name,
        shape,
        np.int8,
        Scales(np.array(other.quantization.scale, np.float32), int(other.quantization.zeroPoint[0])),
    )


def _take_rgb(builder: TfliteBuilder, image: int, meta: ArtifactMeta) -> int:
    """Put a uint8 RGB tensor before the int8 BGR input; return it.

    The order of colours goes into the mean and the first convolution's weights. A convolution that reads two columns as
    six channels has two groups of three. The two inputs stand for the same numbers, a byte less its zero point, so that
    QUANTIZE subtracts 128 and rounds nothing.
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
        builder.op("QUANTIZE", [pixels], [image])
        builder.operators.insert(0, builder.operators.pop())
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
