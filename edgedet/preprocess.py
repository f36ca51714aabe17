"""Fit a picture into the model's input. Knows pixels and the spec; knows no engine and no camera."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np

from .errors import ShapeError, require
from .specs import DetectorSpec
from .types import ModelInput, Scale

# A picture that is this many times the model's input is halved first (docs/decisions/0015-resizing.md).
HALVED_FROM = 2.0
_MOST_BUFFERS = 16  # pictures of the same size need two, and one more each time that they are halved

Buffers = Dict[Tuple[int, int, int], np.ndarray]  # shape (height, width, channels) -> array of uint8


class Preprocessor:
    """Resizes pictures to the top-left of one reused buffer, keeping their aspect ratio.

    Normalisation and channel order are in the model's graph, so bytes go in as the camera delivers them; what the
    picture leaves free is painted with the fill colour that the model was trained with.
    The returned pixels are a view on the buffer: use them before the next call. One thread uses one Preprocessor.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        self._family = spec.family
        self._fill_bgr = np.array(spec.fill_rgb[::-1], dtype=np.uint8)
        self._pixels = np.empty((1, *spec.input_hw, 3), dtype=np.uint8)
        self._painted_hw = (0, 0)  # picture size that the border was painted for
        self._buffers: Buffers = {}
        self._cv2 = require("cv2", "edgedet")

    def __call__(self, bgr: np.ndarray) -> ModelInput:
        """Return the (1, H, W, 3) uint8 input for one (h, w, 3) uint8 BGR picture.

        Raises ShapeError where the picture is of another kind or empty.
        """
        if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8 or bgr.size == 0:
            raise ShapeError(f"a picture is (H, W, 3) uint8 BGR with at least one pixel; got {bgr.shape} {bgr.dtype}.")
        canvas = self._pixels[0]
        source_hw = (bgr.shape[0], bgr.shape[1])
        scale_to_source, (h, w) = fit(source_hw, (canvas.shape[0], canvas.shape[1]), self._family)
        if (h, w) != self._painted_hw:
            canvas[h:] = self._fill_bgr
            canvas[:, w:] = self._fill_bgr
            self._painted_hw = (h, w)
        if len(self._buffers) > _MOST_BUFFERS:
            self._buffers.clear()
        shrink(self._cv2, bgr, canvas[:h, :w], self._buffers)
        return ModelInput(self._pixels, scale_to_source, source_hw)


def shrink(cv2: Any, bgr: np.ndarray, into: np.ndarray, buffers: Buffers) -> None:
    """Resize a picture (h, w, 3) uint8 into an array of that type, which is written in place.

    A picture is halved, as means of 2 x 2 pixels, while it is at least HALVED_FROM times as large; the rest is
    bilinear. Bilinear alone reads four pixels however much it shrinks, so that a large camera's picture would alias.
    Both steps count in integers, so the bytes are the same on every CPU: INTER_LINEAR is a level off at 3 of 10 values
    on ARM, and INTER_AREA by a factor that is no integer adds floats. Of an odd side, the last row or column is left
    out, which moves the picture by less than a pixel of the source.

    buffers: of earlier calls, reused and added to: fresh memory costs as much as the halving.
    """
    h, w = into.shape[:2]
    while bgr.shape[0] >= HALVED_FROM * h and bgr.shape[1] >= HALVED_FROM * w:
        half_h, half_w = bgr.shape[0] // 2, bgr.shape[1] // 2
        half = _buffer(buffers, half_h, half_w, 3)
        cv2.resize(bgr[: 2 * half_h, : 2 * half_w], (half_w, half_h), dst=half, interpolation=cv2.INTER_AREA)
        bgr = half
    if bgr.shape == into.shape:
        np.copyto(into, bgr)
        return
    # OpenCV has vector code for four channels and none for three: a fourth channel saves a sixth of the time.
    padded, resized = _buffer(buffers, bgr.shape[0], bgr.shape[1], 4), _buffer(buffers, h, w, 4)
    cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA, dst=padded)
    cv2.resize(padded, (w, h), dst=resized, interpolation=cv2.INTER_LINEAR_EXACT)
    cv2.cvtColor(resized, cv2.COLOR_BGRA2BGR, dst=into)


def _buffer(buffers: Buffers, height: int, width: int, channels: int) -> np.ndarray:
    shape = (height, width, channels)
    if shape not in buffers:
        buffers[shape] = np.empty(shape, dtype=np.uint8)
    return buffers[shape]


def fit(source_hw: Tuple[int, int], input_hw: Tuple[int, int], family: str = "effdet") -> Tuple[Scale, Tuple[int, int]]:
    """Return how model pixels become source pixels, and the (height, width) that the picture fills: at least 1.

    Each code base rounds to whole pixels in its own way, so that the sizes may differ by one row:
    - effdet (data/transforms.py ``ResizePad``): both sides times one scale, in double precision;
    - automl (dataloader.py ``set_scale_factors_to_output_size``): the same in single precision;
    - zylo117 (utils/utils.py ``aspectaware_resize_padding``): the side that decides fills the input, and each axis is
      scaled back by its own factor.
    """
    if family == "zylo117":
        (height, width), (input_h, input_w) = source_hw, input_hw
        if width * input_h > height * input_w:
            h, w = max(1, int(input_w / width * height)), input_w
        else:
            h, w = input_h, max(1, int(input_h / height * width))
        return (width / w, height / h), (h, w)
    real = np.float32 if family == "automl" else np.float64
    scale = min(real(side) / real(source) for side, source in zip(input_hw, source_hw))
    h, w = (max(1, int(real(side) * scale)) for side in source_hw)
    return float(real(1) / scale), (h, w)
