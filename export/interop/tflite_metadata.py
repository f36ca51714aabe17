"""TFLite metadata: what MediaPipe and the TFLite task library read of a file besides its graph.

A flatbuffer by tensorflow/lite_support's metadata_schema.fbs, in the file's buffer TFLITE_METADATA; the labels are in a
ZIP behind the file. The schema's Python classes come with no small package, so the few tables are written by field.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import flatbuffers

BUFFER_NAME = "TFLITE_METADATA"
LABELS_NAME = "labels.txt"
_IDENTIFIER = b"M001"
_PARSER_VERSION = "1.2.0"  # the first that reads all that is written here
_IMAGE, _BOXES, _FEATURE = 2, 3, 1  # of the union ContentProperties
_NORMALISATION = 1  # of the union ProcessUnitOptions
_TENSOR_VALUE_LABELS = 3
_RGB = 1
_BOUNDARIES = 1
LEFT_TOP_RIGHT_BOTTOM = (1, 0, 3, 2)  # where each stands in y1 x1 y2 x2

Offset = int


@dataclass
class _Writer:
    b: flatbuffers.Builder

    def table(self, slots: int, **fields: Callable[[], None]) -> Offset:
        self.b.StartObject(slots)
        for write in fields.values():
            write()
        return int(self.b.EndObject())

    def offset(self, slot: int, value: Offset) -> Callable[[], None]:
        return lambda: self.b.PrependUOffsetTRelativeSlot(slot, value, 0)

    def byte(self, slot: int, value: int) -> Callable[[], None]:
        return lambda: self.b.PrependInt8Slot(slot, value, 0)

    def vector(self, offsets: Sequence[Offset]) -> Offset:
        self.b.StartVector(4, len(offsets), 4)
        for value in reversed(offsets):
            self.b.PrependUOffsetTRelative(value)
        return int(self.b.EndVector())

    def numbers(self, values: Sequence[float], prepend: Callable[[float], None]) -> Offset:
        self.b.StartVector(4, len(values), 4)
        for value in reversed(values):
            prepend(value)
        return int(self.b.EndVector())


def detector_metadata(name: str, description: str) -> bytes:
    """Return the metadata of a detector: an RGB image, then boxes, classes, scores and their number.

    Pixels are taken as they are, so the normalisation has mean 0 and standard deviation 1.
    """
    w = _Writer(flatbuffers.Builder(1024))
    b = w.b
    floats = {key: w.numbers([value], b.PrependFloat32) for key, value in (("mean", 0.0), ("std", 1.0))}
    normalisation = w.table(2, mean=w.offset(0, floats["mean"]), std=w.offset(1, floats["std"]))
    unit = w.table(2, kind=w.byte(0, _NORMALISATION), options=w.offset(1, normalisation))
    image = w.table(2, colours=w.byte(0, _RGB))
    inputs = [_tensor(w, "image", "the picture, RGB", _IMAGE, image, units=[unit])]
    index = w.numbers(LEFT_TOP_RIGHT_BOTTOM, b.PrependUint32)
    boxes = w.table(3, index=w.offset(0, index), kind=w.byte(1, _BOUNDARIES))  # coordinate_type 0: RATIO
    labels_name = b.CreateString(LABELS_NAME)
    labels = w.table(5, name=w.offset(0, labels_name), kind=w.byte(2, _TENSOR_VALUE_LABELS))
    feature = w.table(0)
    outputs = [
        _tensor(w, "location", "y1 x1 y2 x2, shares of the picture", _BOXES, boxes),
        _tensor(w, "category", "class ids", _FEATURE, feature, files=[labels]),
        _tensor(w, "score", "best first", _FEATURE, feature),
        _tensor(w, "number of detections", "boxes that count", _FEATURE, feature),
    ]
    groups = [_group(w, "detection_result", ["location", "category", "score"])]
    vectors = [w.vector(items) for items in (inputs, outputs, groups)]
    graph = w.table(10, inputs=w.offset(2, vectors[0]), outputs=w.offset(3, vectors[1]), groups=w.offset(8, vectors[2]))
    graphs = w.vector([graph])
    texts = [b.CreateString(text) for text in (name, description, _PARSER_VERSION)]
    root = w.table(
        8,
        name=w.offset(0, texts[0]),
        description=w.offset(1, texts[1]),
        graphs=w.offset(3, graphs),
        parser=w.offset(7, texts[2]),
    )
    b.Finish(root, _IDENTIFIER)
    return bytes(b.Output())


def _tensor(
    w: _Writer,
    name: str,
    description: str,
    kind: int,
    content: Offset,
    units: Sequence[Offset] = (),
    files: Sequence[Offset] = (),
) -> Offset:
    texts = [w.b.CreateString(text) for text in (name, description)]
    properties = w.table(3, kind=w.byte(0, kind), properties=w.offset(1, content))
    fields = {
        "name": w.offset(0, texts[0]),
        "description": w.offset(1, texts[1]),
        "content": w.offset(3, properties),
    }
    if units:
        fields["units"] = w.offset(4, w.vector(units))
    if files:
        fields["files"] = w.offset(6, w.vector(files))
    return w.table(7, **fields)


def _group(w: _Writer, name: str, members: Sequence[str]) -> Offset:
    text = w.b.CreateString(name)
    names = w.vector([w.b.CreateString(member) for member in members])
    return w.table(2, name=w.offset(0, text), members=w.offset(1, names))


def with_labels(file: bytes, labels: str) -> bytes:
    """Return a file of ``with_trailer`` with one entry more in its ZIP: the labels, stored, as MediaPipe reads them."""
    whole = io.BytesIO(file)
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS_NAME), labels)
    return whole.getvalue()
