"""Fit a picture into the model's input. Knows pixels and the spec; knows no engine and no camera."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from .errors import ShapeError, require
from .specs import DetectorSpec
from .types import ModelInput


class Preprocessor:
    """Resizes pictures to the top-left of one reused buffer, keeping their aspect ratio.

    Normalisation and channel order are in the model's graph, so bytes go in as the camera delivers them; what the
    picture leaves free is painted with the fill colour that the model was trained with.
    The returned pixels are a view on the buffer: use them before the next call, and one Preprocessor a thread.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        self._fill_bgr = np.array(spec.fill_rgb[::-1], dtype=np.uint8)
        self._pixels = np.empty((1, *spec.input_hw, 3), dtype=np.uint8)
        self._painted_hw = (0, 0)  # picture size that the border was painted for
        self._cv2 = require("cv2", "edgedet")

    def __call__(self, bgr: np.ndarray) -> ModelInput:
        """Return the (1, H, W, 3) uint8 input for one (h, w, 3) uint8 BGR picture.

        Raises ShapeError where the picture is of another kind or empty.
        """
        if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8 or bgr.size == 0:
            raise ShapeError(f"a picture is (H, W, 3) uint8 BGR with at least one pixel; got {bgr.shape} {bgr.dtype}.")
        canvas = self._pixels[0]
        source_hw = (bgr.shape[0], bgr.shape[1])
        scale, (h, w) = fit(source_hw, (canvas.shape[0], canvas.shape[1]))
        if (h, w) != self._painted_hw:
            canvas[h:] = self._fill_bgr
            canvas[:, w:] = self._fill_bgr
            self._painted_hw = (h, w)
        # The picture's corner of the buffer is written in place; cv2 copies where the size is already right.
        # INTER_LINEAR is a level off at 3 of 10 values on ARM. EXACT gives the same pixels everywhere, so that figures
        # of a PC hold on a board; it costs 0.35 ms more (x86, 768 x 576 to 512 x 384).
        self._cv2.resize(bgr, (w, h), dst=canvas[:h, :w], interpolation=self._cv2.INTER_LINEAR_EXACT)
        return ModelInput(self._pixels, 1.0 / scale, source_hw)


def fit(source_hw: Tuple[int, int], input_hw: Tuple[int, int]) -> Tuple[float, Tuple[int, int]]:
    """Return the scale that fits the source into the input, and the (height, width) that it fills: at least 1, cut off.

    As rwightman effdet/data/transforms.py ``ResizePad``.
    """
    scale = min(input_hw[0] / source_hw[0], input_hw[1] / source_hw[1])
    return scale, (max(1, int(source_hw[0] * scale)), max(1, int(source_hw[1] * scale)))
