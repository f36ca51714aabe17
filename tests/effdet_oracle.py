"""rwightman's effdet package as an oracle for tests; imported only where it is installed.

effdet imports torchvision, whose compiled ops need the very torch build they were made for. Where they are missing,
the two operators that effdet names are registered here: ``nms`` as its plain definition, ``qnms`` by name only.
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import pytest

_libraries: list[Any] = []  # torch drops the operators when the Library object dies


def import_effdet() -> ModuleType:
    """Return the effdet module, or skip the test with the reason."""
    torch = pytest.importorskip("torch", reason="the effdet oracle needs torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # effdet 0.4.1 scripts functions, which newer torch deprecates
        _complete_torchvision(torch)
        pytest.importorskip("timm", reason="the effdet oracle needs timm: pip install timm")
        return pytest.importorskip("effdet", reason="the oracle effdet is not installed: pip install effdet")


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

    areas = (dets[:, 2] - dets[:, 0]) * (dets[:, 3] - dets[:, 1])
    order = torch.argsort(scores, descending=True, stable=True)
    keep = []
    while len(order):
        best, order = order[0], order[1:]
        keep.append(best)
        low = torch.maximum(dets[best, :2], dets[order, :2])
        high = torch.minimum(dets[best, 2:], dets[order, 2:])
        inter = (high - low).clamp(min=0).prod(dim=1)
        iou = inter / (areas[best] + areas[order] - inter)  # NaN between empty boxes: not above, so both stay
        order = order[~(iou > iou_threshold)]
    return torch.stack(keep) if keep else torch.zeros(0, dtype=torch.int64)
