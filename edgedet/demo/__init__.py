"""The bundled demo: where its files are, and frames of its clip."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import List, Optional

import numpy as np

from ..errors import SourceError, require

FOLDER = Path(__file__).resolve().parent
CLIP = FOLDER / "street.mp4"  # 15 s of pedestrians that the weights did not see in training
WEIGHTS = FOLDER / "efficientdet_d0_street.safetensors"  # EfficientDet-D0, one class: person
MODEL_NAME = WEIGHTS.stem
INT8 = FOLDER / f"{MODEL_NAME}_int8.tflite"  # of the same weights, by scripts/make/demo_int8.py


def int8_model() -> Optional[Path]:
    """Return the bundled INT8 file if there is a package that runs it, else None.

    It needs no export, and no other file runs faster on a CPU (docs/tflite.md).
    """
    installed = any(find_spec(name) is not None for name in ("ai_edge_litert", "tflite_runtime"))
    return INT8 if installed and INT8.is_file() else None


def clip_frames(count: int) -> List[np.ndarray]:
    """Return ``count`` frames (H, W, 3) uint8 BGR, spread evenly over the clip."""
    cv2 = require("cv2", "reading the demo clip")
    capture = cv2.VideoCapture(str(CLIP))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    chosen = set(np.linspace(0, max(total - 1, 0), count).astype(int).tolist())
    frames = []
    for index in range(total):
        ok, bgr = capture.read()
        if not ok:
            break
        if index in chosen:
            frames.append(bgr)
    capture.release()
    if len(frames) != len(chosen):
        raise SourceError(f"{CLIP} gave {len(frames)} of {len(chosen)} frames: install edgedet again.")
    return frames
