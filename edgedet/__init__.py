"""edgedet: EfficientDet on edge boards. ``Detector`` finds ``Detections``; ``run`` does so in a loop over a source.

``evaluate``, ``benchmark`` and ``export_model`` do what the commands do. All are imported on first use: importing
the package needs neither numpy nor OpenCV, nor the half that exports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["Detections", "Detector", "__version__", "benchmark", "evaluate", "export_model", "run"]
_MODULES = {  # host code by its name in a string only, as in edgedet.cli
    "Detections": "edgedet.types",
    "Detector": "edgedet.detector",
    "benchmark": "edgedet.benchmarks.latency.benchmark",
    "evaluate": "edgedet.runner.evaluation",
    "export_model": "edgedet.export.export_model",
    "run": "edgedet.runner.results",
}

if TYPE_CHECKING:
    from .detector import Detector
    from .runner.evaluation import evaluate
    from .runner.results import run
    from .types import Detections


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'edgedet' has no attribute {name!r}")
