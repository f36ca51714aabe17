"""edgedet: EfficientDet on edge boards. ``Detector`` is imported on first use, so this import needs no OpenCV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["Detector", "__version__"]

if TYPE_CHECKING:
    from .detector import Detector


def __getattr__(name: str) -> Any:
    if name == "Detector":
        from .detector import Detector

        return Detector
    raise AttributeError(f"module 'edgedet' has no attribute {name!r}")
