"""edgedet: EfficientDet on edge boards. ``Detector`` finds ``Detections``; ``stream`` does so in a loop over a source.

``evaluate``, ``benchmark`` and ``export`` do what the commands do. All are imported on first use: importing the package
needs neither numpy nor OpenCV, nor the half that exports. ``stream`` and ``export`` are packages that can be called, as
``run`` and ``export_model``, which are the functions themselves.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["Detections", "Detector", "__version__", "benchmark", "evaluate", "export", "export_model", "run", "stream"]
_MODULES = {  # host code by its name in a string only, as in edgedet.cli
    "Detections": "edgedet.types",
    "Detector": "edgedet.detector",
    "benchmark": "edgedet.benchmarks.latency.benchmark",
    "evaluate": "edgedet.runner.evaluation",
    "export_model": "edgedet.export.export_model",
    "run": "edgedet.runner.results",
}
_CALLED = {"edgedet.stream": "run", "edgedet.export": "export_model"}  # package -> the function that it is, too

if TYPE_CHECKING:
    from .detector import Detector
    from .runner.evaluation import evaluate
    from .runner.results import run
    from .runner.results import run as stream
    from .types import Detections


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if f"edgedet.{name}" in _CALLED:
        return import_module(f"edgedet.{name}")
    raise AttributeError(f"module 'edgedet' has no attribute {name!r}")


class _CallablePackage(ModuleType):
    """A package that is a function, too."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return __getattr__(_CALLED[self.__name__])(*args, **options)


def make_callable(package: str) -> None:
    """Let a package be called as its function; its own ``__init__`` asks for that."""
    sys.modules[package].__class__ = _CallablePackage
