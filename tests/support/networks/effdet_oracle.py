"""rwightman's effdet package as an oracle for tests; imported only where it is installed.

effdet imports torchvision, whose compiled ops need the very torch build they were made for. Where they are missing,
the two operators that effdet names are registered here: ``nms`` as its plain definition, ``qnms`` by name only.
"""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest

_libraries: list[Any] = []  # torch drops the operators when the Library object dies


def import_effdet() -> ModuleType:
    """Return the effdet module, or skip the test with the reason."""
    torch = pytest.importorskip("torch", reason="the effdet oracle needs torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # effdet 0.4.1 scripts functions, which newer torch deprecates
        _complete_torchvision(torch)
        pytest.importorskip("timm", reason="the effdet oracle needs timm: pip install timm")
        effdet = pytest.importorskip("effdet", reason="the oracle effdet is not installed: pip install effdet")
    if _libraries:
        sys.modules["torchvision.ops.boxes"]._assert_has_ops = lambda: None
    return effdet


def _complete_torchvision(torch: ModuleType) -> None:
    try:
        pytest.importorskip("torchvision", reason="the effdet oracle needs torchvision: pip install torchvision")
    except RuntimeError:  # "operator torchvision::nms does not exist": its compiled part did not load
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.impl("nms", _plain_nms, "CPU")
        _libraries.append(library)


def _plain_nms(dets: Any, scores: Any, iou_threshold: float) -> Any:
    """Greedy NMS by its definition, in float32 as torchvision's CPU kernel: IoU above the threshold is dropped."""
    import torch

    x1, y1, x2, y2 = dets.numpy().T
    areas = (x2 - x1) * (y2 - y1)
    order = np.argsort(-scores.numpy(), kind="stable")
    keep = []
    while len(order):
        best, order = order[0], order[1:]
        keep.append(best)
        width = np.minimum(x2[best], x2[order]) - np.maximum(x1[best], x1[order])
        height = np.minimum(y2[best], y2[order]) - np.maximum(y1[best], y1[order])
        inter = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(invalid="ignore"):  # 0 / 0 between empty boxes is NaN: not above, so both stay
            iou = inter / (areas[best] + areas[order] - inter)
        order = order[~(iou > iou_threshold)]
    return torch.tensor(keep, dtype=torch.int64)
