"""edgedet: EfficientDet on edge boards. ``Detector`` detects in pictures, ``stream`` in the frames of a source.

``evaluate``, ``benchmark`` and ``export`` do what the commands do. All are imported on first use: importing the package
needs neither numpy nor OpenCV, nor host code. ``stream`` and ``export`` are packages that can also be called: they then
do what the functions ``run`` and ``export_model`` do.
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
_CALLED = {"edgedet.stream": "run", "edgedet.export": "export_model"}  # package -> the function that a call of it calls

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
    """A package that can also be called as a function."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return __getattr__(_CALLED[self.__name__])(*args, **options)


def make_callable(package: str) -> None:
    """Let a package be called as its function; its own ``__init__`` asks for that."""
    sys.modules[package].__class__ = _CallablePackage
