"""A fake engine that finds the same boxes in every picture: for tests and for trying cameras without a model.

Its model files end in ".fake": JSON with the metadata of a model and the boxes that it gives.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterable, List, Sequence, Tuple, Union

import numpy as np

from ..anchors import anchors_for
from ..artifact import ArtifactMeta
from ..errors import ArtifactError, ClosedError
from ..files import atomic_path, parse_json
from ..postprocess import encode, logit_of
from ..types import RawOutputs
from .base import CLOSED, Engine, check_pixels

# class id, score in (0, 1), box x1 y1 x2 y2 in pixels of the model's input
FakeBox = Tuple[int, float, Sequence[float]]
_NO_LOGIT = -20.0


def open_model(path: Path, threads: int) -> Tuple[ArtifactMeta, Engine]:
    """Open a file of ``save_fake``; see ``open_engine``."""
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
        meta = ArtifactMeta.from_json(json.dumps(values["meta"]))
        boxes = [(int(class_id), float(score), list(box)) for class_id, score, box in values["boxes"]]
        return meta, FakeEngine(meta, boxes)
    except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
        raise ArtifactError(f"{path} is damaged or no fake model: {error}.") from None


def save_fake(path: Union[str, Path], meta: ArtifactMeta, boxes: Iterable[FakeBox]) -> None:
    """Write a fake model file."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"meta": json.loads(meta.to_json()), "boxes": list(boxes)}), encoding="utf-8")


class FakeEngine(Engine):
    """Returns raw outputs that decode to the given boxes, whatever the picture shows."""

    def __init__(self, meta: ArtifactMeta, boxes: Iterable[FakeBox]) -> None:
        anchors_yxyx = anchors_for(meta.spec)
        self._closed = False
        self.max_batch = meta.max_batch
        self._input_shape = (1, *meta.spec.input_hw, 3)
        self._logits = np.full((len(anchors_yxyx), meta.spec.num_classes), _NO_LOGIT, dtype=np.float32)
        self._codes = np.zeros((len(anchors_yxyx), 4), dtype=np.float32)
        for anchor, (class_id, score, box_xyxy) in enumerate(boxes):  # a box code can move any anchor to any box
            self._logits[anchor, class_id] = logit_of(score)
            self._codes[anchor] = encode(np.array([box_xyxy], dtype=np.float32), anchors_yxyx[anchor : anchor + 1])[0]

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Return the same outputs every time."""
        if self._closed:
            raise ClosedError(CLOSED)
        check_pixels(pixels, self._input_shape)
        return RawOutputs(self._logits, self._codes)

    def infer_batch(self, pixels: np.ndarray) -> List[RawOutputs]:
        """Return the same outputs for each picture."""
        check_pixels(pixels, self._input_shape, self.max_batch)
        return [self.infer(picture[None]) for picture in pixels]

    def close(self) -> None:
        """Refuse further pictures, as a real engine does."""
        self._closed = True
