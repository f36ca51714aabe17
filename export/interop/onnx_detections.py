"""Append decoding and NMS to a graph of raw outputs, in standard ONNX operators only.

The operators do what ``edgedet.postprocess`` does by rules with hard NMS among the boxes of a class, but for one thing:
boxes are cut to the model's input before NMS, because the graph does not know where in it the picture ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet.anchors import anchors_for
from edgedet.artifact import ArtifactMeta
from edgedet.engines.ort import BATCH_NAME
from edgedet.export.fusion.open_batch import has_open_batch
from edgedet.export.interop.target import LOWEST_SCORE, check_rules
from edgedet.postprocess import MAX_BOXES

_PREFIX = "detections"


@dataclass(frozen=True)
class Columns:
    """The corners of boxes as a reader wants them.

    order:      positions in (y1, x1, y2, x2).
    normalised: share of the model's input instead of its pixels.
    """

    order: tuple[int, int, int, int]
    normalised: bool


YXYX_SHARES = Columns((0, 1, 2, 3), normalised=True)
XYXY_PIXELS = Columns((1, 0, 3, 2), normalised=False)


class Tail:
    """Nodes and constants that are added behind the raw outputs of a graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Start to change ``model``, in place."""
        self._graph = model.graph

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant and return its name."""
        full = f"{_PREFIX}.constant.{name}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), full))
        return full

    def op(self, kind: str, inputs: list[str], name: str, outputs: int = 1, **attributes: Any) -> str:
        """Append a node; return its output, of several ``name`` and ``name.1`` the last one is not needed."""
        full = name if not name.startswith(".") else f"{_PREFIX}{name}"
        names = [full, *(f"{full}.{at}" for at in range(1, outputs))]
        self._graph.node.append(helper.make_node(kind, inputs, names, name=full, **attributes))
        return full


def append_nms(
    model: onnx.ModelProto, meta: ArtifactMeta, columns: Columns, rows: int = MAX_BOXES
) -> tuple[Tail, str, str, str]:
    """Append decoding and NMS to a graph with the outputs of ``meta``, in place, and remove those outputs.

    Returns the tail to go on with, and the names of boxes (B, rows, 4), scores and classes (B, rows), float32, best
    first; without B for a graph that takes one picture only. Behind the last box, all three are 0. NMS takes
    scores, not logits: OpenCV's refuses negative thresholds.
    Raises UnsupportedError for rules of post-processing that these operators cannot follow.
    """
    check_rules(meta.nms)
    logits, codes = meta.outputs
    is_batch = has_open_batch(model)
    del model.graph.output[:]
    t = Tail(model)
    boxes = _decoded(t, codes, meta)
    by_class = t.op("Transpose", [logits], ".by_class", perm=[0, 2, 1])  # (B, C, A)
    per_class = t.op("Sigmoid", [by_class], ".per_class")
    if meta.nms.candidates == "anchors" and meta.spec.num_classes > 1:
        per_class = _best_class_only(t, by_class, per_class, meta.spec.num_classes)
    chosen = t.op(
        "NonMaxSuppression",
        [
            boxes,
            per_class,
            t.constant("most", [rows], np.int64),
            t.constant("iou", [meta.nms.max_iou]),
            t.constant("lowest", [LOWEST_SCORE]),
        ],
        ".chosen",
    )  # (n, 3): picture, class, anchor; of all pictures one behind the other
    chosen_scores = t.op("GatherND", [per_class, chosen], ".found")
    columns_of = t.op("Split", [chosen, t.constant("ones", [1, 1, 1], np.int64)], ".ids", 3, axis=1)
    picture_ids, class_ids, anchor_ids = columns_of, f"{columns_of}.1", f"{columns_of}.2"
    best, order = _best_rows(t, chosen_scores, rows, (picture_ids, logits) if is_batch else None)
    if is_batch:
        kept = t.op("GatherND", [boxes, t.op("Concat", [picture_ids, anchor_ids], ".places", axis=1)], ".kept")
    else:
        flat_ids = t.op("Squeeze", [anchor_ids, t.constant("second", [1], np.int64)], ".anchor_ids")
        all_boxes = t.op("Squeeze", [boxes, t.constant("first", [0], np.int64)], ".all_boxes")
        kept = t.op("Gather", [all_boxes, flat_ids], ".kept", axis=0)
    h, w = meta.spec.input_hw
    shares = [1 / h, 1 / w, 1 / h, 1 / w] if columns.normalised else [1.0] * 4
    kept = t.op("Mul", [kept, t.constant("shares", shares)], ".scaled")
    kept = t.op("Gather", [kept, t.constant("order", columns.order, np.int64)], ".ordered", axis=1)
    kept = t.op("Concat", [kept, t.constant("no_boxes", np.zeros((rows, 4)))], ".kept_padded", axis=0)
    class_ids = t.op("Cast", [class_ids], ".class_ids", to=TensorProto.FLOAT)
    class_ids = t.op("Concat", [class_ids, t.constant("no_classes", np.zeros((rows, 1)))], ".classes_padded", axis=0)
    final_boxes = t.op("Gather", [kept, order], ".sorted_boxes", axis=0)
    sorted_classes = t.op("Gather", [class_ids, order], ".sorted_classes", axis=0)
    final_classes = t.op("Squeeze", [sorted_classes, t.constant("last", [-1], np.int64)], ".flat_classes")
    return t, final_boxes, best, final_classes


def _best_class_only(t: Tail, logits: str, scores: str, num_classes: int) -> str:
    """Append the choice of each anchor's best class; return scores (B, C, A) that are 0 of all other classes."""
    best = t.op("ArgMax", [logits], ".best_class", axis=1, keepdims=1)  # (B, 1, A); of equal ones the first
    numbers = t.constant("class_numbers", np.arange(num_classes).reshape(1, -1, 1), np.int64)
    is_best = t.op("Equal", [best, numbers], ".is_best")
    return t.op("Where", [is_best, scores, t.constant("no_score", 0.0)], ".best_scores")


def _best_rows(t: Tail, scores: str, rows: int, batch: tuple[str, str] | None) -> tuple[str, str]:
    """Append the choice of the ``rows`` best scores of each picture; return scores and their numbers, (B, rows).

    scores: scores (n,) of the boxes of all pictures, behind which ``rows`` zeros fill up what a picture lacks.
    batch: names of the number of each box's picture, (n, 1), and of a tensor with B as its first dimension; None for
           one picture, whose outputs have no B.
    """
    if batch is None:
        padded = t.op("Concat", [scores, t.constant("no_scores", np.zeros(rows))], ".padded", axis=0)
    else:
        picture_ids, sized = batch
        count = t.op(
            "Gather", [t.op("Shape", [sized], ".sizes"), t.constant("batch_at", 0, np.int64)], ".count", axis=0
        )
        first, step = t.constant("first_picture", 0, np.int64), t.constant("one", 1, np.int64)
        numbers = t.op("Range", [first, count, step], ".numbers")
        pictures = t.op("Unsqueeze", [numbers, t.constant("rows_of_boxes", [1], np.int64)], ".pictures")  # (B, 1)
        of_boxes = t.op("Transpose", [picture_ids], ".of_boxes", perm=[1, 0])  # (1, n)
        is_own = t.op("Equal", [pictures, of_boxes], ".is_own")  # (B, n)
        own = t.op("Where", [is_own, scores, t.constant("worse_than_none", -1.0)], ".own")
        padded = t.op("Pad", [own, t.constant("behind", [0, 0, 0, rows], np.int64)], ".padded", mode="constant")
    best = t.op("TopK", [padded, t.constant("rows", [rows], np.int64)], ".best", 2, axis=-1, largest=1, sorted=1)
    return best, f"{best}.1"


def _decoded(t: Tail, codes: str, meta: ArtifactMeta) -> str:
    """Append the decoding of (1, A, 4) ty tx th tw; return boxes (1, A, 4) y1 x1 y2 x2 in pixels of the input."""
    anchors = anchors_for(meta.spec)[None]
    sides = anchors[..., 2:] - anchors[..., :2]
    shifts, growths = f"{_PREFIX}.codes", f"{_PREFIX}.codes.1"
    t.op("Split", [codes, t.constant("halves", [2, 2], np.int64)], ".codes", 2, axis=2)
    anchor_sides = t.constant("anchor_sides", sides)
    moved = t.op("Mul", [shifts, anchor_sides], ".moved")
    centres = t.op("Add", [moved, t.constant("centres", (anchors[..., :2] + anchors[..., 2:]) / 2)], ".centres_yx")
    grown = t.op("Exp", [growths], ".grown")
    halves = t.op("Mul", [grown, t.constant("anchor_halves", sides / 2)], ".halves_yx")
    lows = t.op("Sub", [centres, halves], ".lows")
    highs = t.op("Add", [centres, halves], ".highs")
    boxes = t.op("Concat", [lows, highs], ".boxes", axis=2)
    h, w = meta.spec.input_hw
    if meta.nms.clip == "input":  # to the last pixel's centre
        h, w = h - 1, w - 1
    floor = t.op("Max", [boxes, t.constant("zero", 0.0)], ".not_below")
    return t.op("Min", [floor, t.constant("limits", [h, w, h, w])], ".cut")


def name_output(model: onnx.ModelProto, name: str, kind: int, shape: tuple[int | str, ...]) -> None:
    """Declare a value as the graph's next output."""
    model.graph.output.append(helper.make_tensor_value_info(name, kind, shape))


def four_outputs(model: onnx.ModelProto, meta: ArtifactMeta, columns: Columns, names: FourNames) -> None:
    """Change a graph of raw outputs, in place, into one with a number of boxes, boxes, scores and classes.

    Shapes (B, 1), (B, MAX_BOXES, 4), (B, MAX_BOXES) and (B, MAX_BOXES); B is 1, or open as that of the graph.
    """
    is_batch = has_open_batch(model)
    t, boxes, scores, classes = append_nms(model, meta, columns)
    there = t.op("Greater", [scores, t.constant("nothing", 0.0)], ".there")
    counted = t.op("Cast", [there], ".counted", to=names.kind)
    total = t.op("ReduceSum", [counted, t.constant("rows_axis", [-1], np.int64)], ".total", keepdims=1)
    typed = t.op("Cast", [classes], ".typed", to=names.kind)
    kind, inputs = ("Identity", []) if is_batch else ("Unsqueeze", [t.constant("batch", [0], np.int64)])
    given = {names.number: total, names.boxes: boxes, names.scores: scores, names.classes: typed}
    for name, value in given.items():
        t.op(kind, [value, *inputs], name)
    first: int | str = BATCH_NAME if is_batch else 1
    name_output(model, names.number, names.kind, (first, 1))
    name_output(model, names.boxes, TensorProto.FLOAT, (first, MAX_BOXES, 4))
    name_output(model, names.scores, TensorProto.FLOAT, (first, MAX_BOXES))
    name_output(model, names.classes, names.kind, (first, MAX_BOXES))


@dataclass(frozen=True)
class FourNames:
    """What a reader calls the four outputs, and the type of the number and the classes."""

    number: str = "num"
    boxes: str = "boxes"
    scores: str = "scores"
    classes: str = "classes"
    kind: int = TensorProto.INT32
