"""What an inference engine is, and how a model file finds its own. Knows no engine's library."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Optional, Protocol, Tuple, Union

import numpy as np

from ..artifact import ArtifactMeta
from ..errors import ArtifactError, InputError, UnsupportedError
from ..types import RawOutputs

MAX_THREADS = 1024  # XNNPACK ends the process where the system refuses a thread; no board has as many cores

# suffix -> module of this package with ``open_model(path, threads) -> (ArtifactMeta, Engine)``, imported when asked for
_OPENERS = {
    ".onnx": "ort",
    ".tflite": "tflite",
    ".engine": "tensorrt.engine",
    ".plan": "tensorrt.engine",
    ".fake": "fake",
}


class Engine(Protocol):
    """Runs one network on one picture at a time. Not for two threads at once."""

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run (1, H, W, 3) uint8 BGR pixels; the outputs may be overwritten by the next call."""
        ...

    def close(self) -> None:
        """Free what the engine holds; it is not used afterwards."""
        ...


def default_threads() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads(threads: int) -> None:
    """Raise InputError for a number of threads that no engine can have."""
    if not 1 <= threads <= MAX_THREADS:
        raise InputError(f"models run on 1 to {MAX_THREADS} threads; got {threads}.")


def open_engine(
    path: Union[str, Path], threads: int, delegate: Optional[str] = None
) -> Tuple[ArtifactMeta, Engine]:  # fmt: skip
    """Open a model file with the engine that its suffix names, on ``threads`` CPU threads.

    delegate: shared library that runs what it can of a TFLite file, for example libedgetpu.so.1.
    Raises InputError for an impossible number of threads, ArtifactError where the file is missing, damaged or not made
    by edgedet, MissingDependency where the engine's package is not installed, UnsupportedError where the delegate
    cannot be used.
    """
    check_threads(threads)
    path = Path(path)
    if path.suffix.lower() not in _OPENERS:
        wanted = ", ".join(suffix for suffix in _OPENERS if suffix != ".fake")
        raise ArtifactError(f"{path} is no model that edgedet runs: wanted a name ending in {wanted}.")
    if not os.path.isfile(path):
        raise ArtifactError(f"there is no model file {path}: name one that `edgedet export` wrote.")
    opener = import_module(f"edgedet.engines.{_OPENERS[path.suffix.lower()]}")
    if delegate is None:
        meta, engine = opener.open_model(path, threads)
    elif path.suffix.lower() == ".tflite":
        meta, engine = opener.open_model(path, threads, delegate)
    else:
        raise UnsupportedError(f"only TFLite files run on a delegate; {path} is none.")
    return meta, engine
