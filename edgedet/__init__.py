"""edgedet: EfficientDet on edge boards. ``Detector`` finds ``Detections``.

Both are imported on first use, so that importing the package needs neither numpy nor OpenCV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["Detections", "Detector", "__version__"]
_MODULES = {"Detections": "edgedet.types", "Detector": "edgedet.detector"}

if TYPE_CHECKING:
    from .detector import Detector
    from .types import Detections


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'edgedet' has no attribute {name!r}")
